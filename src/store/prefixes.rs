//! Counts what is retained below some prefixes, when they get a limit.

use super::environment::{Environment, Table};
use super::error::StoreError;
use crate::prefix_limits::PrefixLimits;

/// Counts the topics below each prefix: keys of topics begin as their topics do.
///
/// # Errors
/// The file cannot be read.
pub(super) fn count_retained(
    environment: &Environment,
    limits: &PrefixLimits,
) -> Result<PrefixLimits, StoreError> {
    let failed = |source| environment.failed("retained messages cannot be counted", source);
    let mut counted = limits.clone();
    let transaction = environment.read()?;
    for prefix in limits.prefixes() {
        let rows = environment.table(Table::Retained);
        let rows = rows.prefix_iter(&transaction, prefix).map_err(failed)?;
        for row in rows {
            let (key, _) = row.map_err(failed)?;
            // Of a prefix within another, only the longer one counts.
            if limits.prefix_of(key) == Some(prefix) {
                counted.count(key);
            }
        }
    }
    Ok(counted)
}
