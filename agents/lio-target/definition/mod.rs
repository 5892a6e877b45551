//! placeholder
use crate::wanted::Wanted;
pub fn read(_: &host::Host, _: &str) -> anyhow::Result<Option<Wanted>> {
    Ok(None)
}
pub fn to_toml(_: &Wanted) -> String {
    String::new()
}
