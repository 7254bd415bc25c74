//! A graph of work: who waits for whom, and what is most urgent.

/// One node of work.
#[derive(Debug, Clone)]
pub struct DagNode {
    pub name: String,
    /// Expected seconds; any positive figure when unknown.
    pub weight: f64,
    /// Indexes of the nodes that must end before this one starts.
    pub after: Vec<usize>,
}

/// Nodes without a cycle.
#[derive(Debug)]
pub struct Dag {
    pub(crate) nodes: Vec<DagNode>,
    /// For each node, those that wait for it.
    pub(crate) followers: Vec<Vec<usize>>,
    /// For each node, the seconds of the longest chain that starts with it.
    pub(crate) urgency: Vec<f64>,
}

/// The names along a cycle; the first is repeated at the end.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cycle: {}", .path.join(" -> "))]
pub struct Cycle {
    pub path: Vec<String>,
}

impl Dag {
    /// Panics if an index in `after` is not that of a node.
    /// Errors: the shortest cycle found from the first node that lies on one; each name waits for the next.
    pub fn new(nodes: Vec<DagNode>) -> Result<Self, Cycle> {
        assert!(nodes.iter().all(|node| node.after.iter().all(|&at| at < nodes.len())), "an edge leaves the graph");
        let mut followers = vec![Vec::new(); nodes.len()];
        for (at, node) in nodes.iter().enumerate() {
            for &before in &node.after {
                if let Some(list) = followers.get_mut(before) {
                    list.push(at);
                }
            }
        }
        let order = topological_order(&nodes, &followers).map_err(|stuck| find_cycle(&nodes, &stuck))?;
        let mut urgency = vec![0.0_f64; nodes.len()];
        for &at in order.iter().rev() {
            let longest = followers[at].iter().map(|&next| urgency[next]).fold(0.0_f64, f64::max);
            urgency[at] = nodes[at].weight.max(0.0) + longest;
        }
        Ok(Self { nodes, followers, urgency })
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// Errors: the nodes that wait for themselves, or for one that does.
fn topological_order(nodes: &[DagNode], followers: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut open: Vec<usize> = nodes.iter().map(|node| node.after.len()).collect();
    let mut order: Vec<usize> = (0..nodes.len()).filter(|&at| open[at] == 0).collect();
    let mut next = 0;
    while next < order.len() {
        for &follower in &followers[order[next]] {
            open[follower] -= 1;
            if open[follower] == 0 {
                order.push(follower);
            }
        }
        next += 1;
    }
    if order.len() == nodes.len() { Ok(order) } else { Err((0..nodes.len()).filter(|&at| open[at] > 0).collect()) }
}

fn find_cycle(nodes: &[DagNode], stuck: &[usize]) -> Cycle {
    let shortest = stuck.iter().filter_map(|&start| shortest_way_back(nodes, start)).min_by_key(Vec::len);
    let mut path: Vec<String> = shortest.into_iter().flatten().map(|at| nodes[at].name.clone()).collect();
    path.extend(path.first().cloned());
    Cycle { path }
}

/// The nodes of the shortest cycle through `start`, by breadth-first search along `after`.
fn shortest_way_back(nodes: &[DagNode], start: usize) -> Option<Vec<usize>> {
    let mut came_from: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for &before in &nodes[at].after {
            if before == start {
                let mut path = vec![at];
                while let Some(previous) = path.last().filter(|&&last| last != start).and_then(|&last| came_from[last])
                {
                    path.push(previous);
                }
                path.reverse();
                return Some(path);
            }
            if came_from[before].is_none() {
                came_from[before] = Some(at);
                queue.push_back(before);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, after: &[usize]) -> DagNode {
        DagNode { name: name.into(), weight: 1.0, after: after.to_vec() }
    }

    #[test]
    fn a_cycle_names_its_path_and_not_what_hangs_on_it() {
        let nodes = vec![node("root", &[]), node("a", &[2, 0]), node("b", &[3]), node("c", &[1]), node("leaf", &[1])];
        let cycle = Dag::new(nodes).unwrap_err();
        assert_eq!(cycle.to_string(), "cycle: a -> b -> c -> a");
    }

    #[test]
    fn a_node_that_waits_for_itself_is_a_cycle() {
        assert_eq!(Dag::new(vec![node("a", &[0])]).unwrap_err().to_string(), "cycle: a -> a");
    }

    #[test]
    fn urgency_is_the_longest_chain() {
        let mut nodes = vec![node("short", &[]), node("long", &[]), node("end", &[1])];
        nodes[2].weight = 5.0;
        assert_eq!(Dag::new(nodes).unwrap().urgency, [1.0, 6.0, 5.0]);
    }
}
