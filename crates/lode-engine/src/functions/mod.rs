//! Functions and operators that PostgreSQL has and the planner lacks, or answers otherwise. One file a family.

use datafusion::error::Result;
use datafusion::execution::session_state::SessionStateBuilder;

/// Adds all families to a state.
pub(crate) fn register(builder: SessionStateBuilder) -> Result<SessionStateBuilder> {
    Ok(builder)
}
