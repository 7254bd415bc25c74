//! Runs a graph: each node once, after those it waits for, a bounded number at a time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::future::Future;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use lode_core::Problem;

use crate::Dag;

#[derive(Debug, Clone)]
pub struct Limits {
    /// Nodes at a time, at least 1.
    pub threads: usize,
    /// After the first `Block`, start nothing more and cancel the token that running nodes hold.
    pub fail_fast: bool,
    /// Cancelled by the user: nothing more starts; running nodes see it in their token and are waited for.
    pub stop: CancellationToken,
}

/// What a node that ran means for those that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Proceed,
    /// All descendants are skipped.
    Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// The index of the nearest node that blocked it.
    Upstream(usize),
    FailFast,
    Stopped,
}

#[derive(Debug)]
pub enum NodeEnd<T> {
    Ran(T, Verdict),
    /// The node's code panicked; counts as `Block`.
    Panicked(Problem),
    Skipped(SkipReason),
}

#[derive(PartialEq)]
struct Ready {
    urgency: f64,
    at: usize,
}

impl Eq for Ready {}

impl PartialOrd for Ready {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ready {
    /// Most urgent first; equals in the order given, so that runs look alike.
    fn cmp(&self, other: &Self) -> Ordering {
        self.urgency.total_cmp(&other.urgency).then_with(|| other.at.cmp(&self.at))
    }
}

/// Runs all nodes of `dag`. `run` gets the node's index and a token that says when to give up early; `ended` hears of
/// each node once, in order of ends. Returns one end a node, by index.
/// Running nodes are never dropped: a commit in one of them goes to its end.
pub async fn execute<T, R, F>(
    dag: &Dag,
    limits: &Limits,
    run: R,
    mut ended: impl FnMut(usize, &NodeEnd<T>),
) -> Vec<NodeEnd<T>>
where
    T: Send + 'static,
    R: Fn(usize, CancellationToken) -> F,
    F: Future<Output = (T, Verdict)> + Send + 'static,
{
    let token = limits.stop.child_token();
    let mut state = State::new(dag);
    let mut running: JoinSet<(T, Verdict)> = JoinSet::new();
    let mut indexes: Vec<(Id, usize)> = Vec::new();
    loop {
        while running.len() < limits.threads.max(1) && !token.is_cancelled() {
            let Some(Ready { at, .. }) = state.ready.pop() else { break };
            let work = run(at, token.clone()).instrument(tracing::debug_span!("node", at));
            let handle = running.spawn(work);
            indexes.push((handle.id(), at));
        }
        let Some(joined) = running.join_next_with_id().await else { break };
        let (id, end) = match joined {
            Ok((id, (value, verdict))) => (id, NodeEnd::Ran(value, verdict)),
            Err(error) => (error.id(), NodeEnd::Panicked(Problem::internal("a node's code stopped").cause(&error))),
        };
        let Some(found) = indexes.iter().position(|(known, _)| *known == id) else { continue };
        let (_, at) = indexes.swap_remove(found);
        let is_blocked = !matches!(end, NodeEnd::Ran(_, Verdict::Proceed));
        ended(at, &end);
        state.end(at, end);
        if is_blocked {
            state.skip_descendants(at, &mut ended);
            if limits.fail_fast {
                token.cancel();
            }
        } else {
            state.release_followers(at);
        }
    }
    let reason = if limits.stop.is_cancelled() { SkipReason::Stopped } else { SkipReason::FailFast };
    state.finish(reason, &mut ended)
}

struct State<'a, T> {
    dag: &'a Dag,
    /// Nodes that each one still waits for.
    open: Vec<usize>,
    ready: BinaryHeap<Ready>,
    ends: Vec<Option<NodeEnd<T>>>,
}

impl<'a, T> State<'a, T> {
    fn new(dag: &'a Dag) -> Self {
        let open: Vec<usize> = dag.nodes.iter().map(|node| node.after.len()).collect();
        let ready = open
            .iter()
            .enumerate()
            .filter(|(_, count)| **count == 0)
            .map(|(at, _)| Ready { urgency: dag.urgency[at], at });
        Self { dag, ready: ready.collect(), ends: dag.nodes.iter().map(|_| None).collect(), open }
    }

    fn end(&mut self, at: usize, end: NodeEnd<T>) {
        assert!(self.ends[at].is_none(), "node \"{}\" ended twice", self.dag.nodes[at].name);
        self.ends[at] = Some(end);
    }

    fn release_followers(&mut self, at: usize) {
        for &next in &self.dag.followers[at] {
            self.open[next] -= 1;
            if self.open[next] == 0 && self.ends[next].is_none() {
                self.ready.push(Ready { urgency: self.dag.urgency[next], at: next });
            }
        }
    }

    fn skip_descendants(&mut self, at: usize, ended: &mut impl FnMut(usize, &NodeEnd<T>)) {
        let mut stack: Vec<(usize, usize)> = self.dag.followers[at].iter().rev().map(|&next| (next, at)).collect();
        while let Some((next, because)) = stack.pop() {
            if self.ends[next].is_some() {
                continue;
            }
            let end = NodeEnd::Skipped(SkipReason::Upstream(because));
            ended(next, &end);
            self.end(next, end);
            stack.extend(self.dag.followers[next].iter().rev().map(|&follower| (follower, next)));
        }
    }

    fn finish(mut self, reason: SkipReason, ended: &mut impl FnMut(usize, &NodeEnd<T>)) -> Vec<NodeEnd<T>> {
        for (at, slot) in self.ends.iter_mut().enumerate() {
            if slot.is_none() {
                let end = NodeEnd::Skipped(reason);
                ended(at, &end);
                *slot = Some(end);
            }
        }
        self.ends.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;
    use tokio::sync::Barrier;

    use super::*;
    use crate::DagNode;

    fn dag(edges: &[(&str, f64, &[usize])]) -> Dag {
        let nodes = edges.iter().map(|(name, weight, after)| DagNode {
            name: (*name).to_owned(),
            weight: *weight,
            after: after.to_vec(),
        });
        Dag::new(nodes.collect()).unwrap()
    }

    fn limits(threads: usize) -> Limits {
        Limits { threads, fail_fast: false, stop: CancellationToken::new() }
    }

    /// Runs with the named nodes failing; returns start order and ends.
    async fn run(dag: &Dag, limits: &Limits, failing: &[usize]) -> (Vec<usize>, Vec<NodeEnd<usize>>) {
        let started = Arc::new(Mutex::new(Vec::new()));
        let heard = Mutex::new(0);
        let failing: Vec<usize> = failing.to_vec();
        let ends = execute(
            dag,
            limits,
            |at, _| {
                started.lock().push(at);
                let verdict = if failing.contains(&at) { Verdict::Block } else { Verdict::Proceed };
                async move { (at, verdict) }
            },
            |_, _| *heard.lock() += 1,
        )
        .await;
        assert_eq!(*heard.lock(), dag.len());
        let started = started.lock().clone();
        (started, ends)
    }

    #[tokio::test]
    async fn the_critical_path_goes_first() {
        let dag = dag(&[("quick", 1.0, &[]), ("head", 1.0, &[]), ("tail", 9.0, &[1])]);
        assert_eq!(run(&dag, &limits(1), &[]).await.0, [1, 2, 0]);
    }

    #[tokio::test]
    async fn a_failure_skips_its_descendants_only() {
        let dag =
            dag(&[("a", 1.0, &[]), ("b", 1.0, &[0]), ("c", 1.0, &[1]), ("other", 1.0, &[]), ("join", 1.0, &[2, 3])]);
        let (started, ends) = run(&dag, &limits(1), &[0]).await;
        assert_eq!(started, [0, 3]);
        assert!(matches!(ends[1], NodeEnd::Skipped(SkipReason::Upstream(0))));
        assert!(matches!(ends[2], NodeEnd::Skipped(SkipReason::Upstream(1))));
        assert!(matches!(ends[4], NodeEnd::Skipped(SkipReason::Upstream(2))));
        assert!(matches!(ends[3], NodeEnd::Ran(3, Verdict::Proceed)));
    }

    #[tokio::test]
    async fn a_diamond_runs_each_node_once() {
        let dag = dag(&[("a", 1.0, &[]), ("b", 1.0, &[0]), ("c", 1.0, &[0]), ("d", 1.0, &[1, 2])]);
        let (started, _) = run(&dag, &limits(4), &[]).await;
        assert_eq!(started, [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn as_many_as_threads_run_at_a_time() {
        let dag = dag(&[("a", 1.0, &[]), ("b", 1.0, &[]), ("c", 1.0, &[]), ("d", 1.0, &[])]);
        let barrier = Arc::new(Barrier::new(2));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        execute(
            &dag,
            &limits(2),
            |_, _| {
                let (barrier, now, most) = (barrier.clone(), now.clone(), most.clone());
                async move {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    barrier.wait().await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    ((), Verdict::Proceed)
                }
            },
            |_, _| {},
        )
        .await;
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn fail_fast_starts_nothing_more() {
        let dag = dag(&[("a", 2.0, &[]), ("b", 1.0, &[])]);
        let (started, ends) = run(&dag, &Limits { fail_fast: true, ..limits(1) }, &[0]).await;
        assert_eq!(started, [0]);
        assert!(matches!(ends[1], NodeEnd::Skipped(SkipReason::FailFast)));
    }

    #[tokio::test]
    async fn stop_lets_running_nodes_end_and_skips_the_rest() {
        let dag = dag(&[("a", 2.0, &[]), ("b", 1.0, &[0])]);
        let limits = limits(1);
        let stop = limits.stop.clone();
        let ends = execute(
            &dag,
            &limits,
            |_, token| {
                stop.cancel();
                async move {
                    token.cancelled().await;
                    ("committed", Verdict::Proceed)
                }
            },
            |_, _| {},
        )
        .await;
        assert!(matches!(ends[0], NodeEnd::Ran("committed", Verdict::Proceed)));
        assert!(matches!(ends[1], NodeEnd::Skipped(SkipReason::Stopped)));
    }

    #[tokio::test]
    async fn a_panic_blocks_descendants_and_nothing_else() {
        let dag = dag(&[("a", 1.0, &[]), ("b", 1.0, &[0]), ("c", 1.0, &[])]);
        let ends = execute(
            &dag,
            &limits(2),
            |at, _| async move {
                assert!(at != 0, "boom");
                ((), Verdict::Proceed)
            },
            |_, _| {},
        )
        .await;
        assert!(matches!(ends[0], NodeEnd::Panicked(_)));
        assert!(matches!(ends[1], NodeEnd::Skipped(SkipReason::Upstream(0))));
        assert!(matches!(ends[2], NodeEnd::Ran((), Verdict::Proceed)));
    }
}
