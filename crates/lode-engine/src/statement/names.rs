//! Identifiers of a statement as names of the catalog.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName};

use lode_core::{ErrorKind, Problem, SqlSession, TableName};

use crate::session::DATABASE;

/// An identifier as PostgreSQL reads it: unquoted ones in lower case.
pub(crate) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// `table`, `schema.table` or `lode.schema.table`. Errors: `Undefined` for another database, `Config` for a name that
/// cannot be a folder.
pub(super) fn relation(name: &ObjectName, session: &SqlSession) -> Result<TableName, Problem> {
    let parts: Option<Vec<String>> = name.0.iter().map(|part| part.as_ident().map(folded)).collect();
    let parts = parts.unwrap_or_default();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (schema, table) = match parts.as_slice() {
        [table] => (session.default_schema.as_str(), *table),
        [schema, table] | [DATABASE, schema, table] => (*schema, *table),
        _ => {
            return Err(Problem::new(ErrorKind::Undefined, format!("\"{name}\" is not in this database"))
                .fix(format!("the only database is \"{DATABASE}\": write schema.table")));
        }
    };
    // Checked as text, since it becomes a folder.
    format!("{schema}.{table}").parse()
}
