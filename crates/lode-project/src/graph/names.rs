//! Names that dbt makes: schemas, aliases, test ids.

use serde_json::{Map, Value as Json};

use crate::md5;

/// Short and full name of a generic test.
/// Source: dbt-core, `synthesize_generic_test_names`: arguments in key order, 64 characters at most, else 30 and an md5.
pub(crate) fn test_names(test: &str, target: &str, arguments: &Map<String, Json>) -> (String, String) {
    let mut keys: Vec<&String> = arguments.keys().filter(|key| *key != "model").collect();
    keys.sort();
    let mut parts = Vec::new();
    for value in keys.into_iter().filter_map(|key| arguments.get(key)) {
        match value {
            Json::Object(entries) => parts.extend(entries.values().map(python_str)),
            Json::Array(items) => parts.extend(items.iter().map(python_str)),
            other => parts.push(python_str(other)),
        }
    }
    let clean: Vec<String> = parts.iter().map(|part| clean(part)).collect();
    let start = format!("{test}_{target}");
    let full = format!("{start}_{}", clean.join("__"));
    if full.chars().count() < 64 {
        return (full.clone(), full);
    }
    let short: String = start.chars().take(30).collect();
    (format!("{short}_{}", md5::hex(full.as_bytes())), full)
}

/// Every run of other characters than letters, digits and `_` becomes one `_`.
fn clean(text: &str) -> String {
    let mut out = String::new();
    let mut in_run = false;
    for c in text.chars() {
        let fits = c.is_ascii_alphanumeric() || c == '_';
        if fits {
            out.push(c);
        } else if !in_run {
            out.push('_');
        }
        in_run = !fits;
    }
    out
}

/// The ten hex digits at the end of a test's unique id.
/// Source: dbt-core, `create_test_node`: md5 over the name and Python's `repr` of the test's metadata, keys sorted.
pub(crate) fn test_hash(name: &str, test: &str, namespace: Option<&str>, arguments: &Map<String, Json>) -> String {
    let metadata = format!(
        "{{'kwargs': {}, 'name': {}, 'namespace': {}}}",
        hashable(&Json::Object(arguments.clone())),
        repr(test),
        repr(namespace.unwrap_or("None")),
    );
    let digest = md5::hex(format!("{name}{metadata}").as_bytes());
    digest.get(digest.len() - 10..).unwrap_or_default().to_owned()
}

fn hashable(value: &Json) -> String {
    match value {
        Json::Object(entries) => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort();
            let inside: Vec<String> = keys
                .into_iter()
                .filter_map(|key| Some(format!("{}: {}", repr(key), hashable(entries.get(key)?))))
                .collect();
            format!("{{{}}}", inside.join(", "))
        }
        Json::Array(items) => format!("[{}]", items.iter().map(hashable).collect::<Vec<_>>().join(", ")),
        other => repr(&python_str(other)),
    }
}

fn repr(text: &str) -> String {
    crate::jinja::python::quote(text)
}

/// `str(value)`.
fn python_str(value: &Json) -> String {
    match value {
        Json::Null => "None".into(),
        Json::Bool(true) => "True".into(),
        Json::Bool(false) => "False".into(),
        Json::String(text) => text.clone(),
        Json::Array(_) | Json::Object(_) => crate::jinja::python::repr(&crate::jinja::from_json(value)),
        Json::Number(number) => crate::jinja::python::text(&crate::jinja::from_json(&Json::Number(number.clone()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(value: Json) -> Map<String, Json> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn long_names_are_cut_and_hashed() {
        let (short, full) = test_names(
            "accepted_values",
            "orders",
            &arguments(json!({"column_name": "status", "values": ["placed", "shipped", "completed", "returned"]})),
        );
        assert_eq!(full, "accepted_values_orders_status__placed__shipped__completed__returned");
        assert!(short.starts_with("accepted_values_orders_") && short.len() == 23 + 32, "{short}");
    }

    #[test]
    fn relationships_clean_their_arguments() {
        let (short, _) = test_names(
            "relationships",
            "orders",
            &arguments(json!({"to": "ref('customers')", "field": "id", "column_name": "customer_id"})),
        );
        assert_eq!(short, "relationships_orders_customer_id__id__ref_customers_");
    }
}
