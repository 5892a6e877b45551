//! Where it is written which targets there are to be: in a file that lies on the storage, and in properties of its volumes.
//!
//! A file of a name that ends in `.conf` is a [`stmf-ha.conf`](#stmf-haconf), any other a [`lio.toml`](#liotoml). Both are
//! read, never executed. A file that is not there means that the storage is not managed; an empty one means what
//! stmf-ha makes of an empty one: a target called after the pool, `iqn.2010-08.org.illumos:stmf-ha:POOL`, on all addresses,
//! with every volume of the pool, for any initiator.
//!
//! The pool is the one on whose file system the file lies. Its volumes keep their identities in
//! [user properties](volumes), which go wherever the volume goes; a volume that has none is given one at start, and that is
//! stored: a volume that is renamed stays the disk that it was. Conflicts are errors: nothing is ever given another number.
//!
#![doc = include_str!("manual.md")]

mod bash;
mod draft;
pub mod identity;
mod lio_toml;
mod place;
pub mod rules;
mod stmf_ha;
mod table;
#[cfg(test)]
mod tests;
pub mod volumes;
mod write;

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use host::Host;

pub use place::secrets;
pub use volumes::{Assignment, store};
pub use write::to_toml;

use crate::names;
use crate::wanted::{Portal, Wanted};
use place::Place;

/// Both formats in full, as a chapter of the manual.
pub const MANUAL: &str = include_str!("manual.md");

/// What a file and the properties of its pool's volumes define.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// What is to be put into the kernel.
    pub wanted: Wanted,
    /// What was chosen on the way, and has to be [stored](store) before anyone sees it.
    pub assigned: Vec<Assignment>,
}

/// How a definition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `lio.toml`
    Toml,
    /// `stmf-ha.conf`
    StmfHa,
}

impl Format {
    /// The format of a file of that name.
    pub fn of(path: &str) -> Format {
        match path.ends_with(".conf") {
            true => Format::StmfHa,
            false => Format::Toml,
        }
    }
}

/// The definition in a file; None if there is no such file. Reads the file, the kernel's table of mounts, files with
/// passwords and, where the text leaves something to them, the properties of the pool's volumes. Changes nothing.
pub fn read(host: &Host, path: &str) -> Result<Option<Definition>> {
    match place::read(host, path)? {
        Some(text) => define(&text, Format::of(path), Place::on(host, path)?).map(Some),
        None => Ok(None),
    }
}

/// Checks a text without a host: all but what depends on the volumes of the pool and on passwords. `path` is for messages.
#[cfg(test)]
pub fn check(text: &str, format: Format, path: &str, pool: Option<&str>) -> Result<()> {
    define(text, format, Place::nowhere(path, pool)).map(drop)
}

fn define(text: &str, format: Format, mut place: Place) -> Result<Definition> {
    let draft = match format {
        Format::Toml => lio_toml::draft(text, &mut place)?,
        Format::StmfHa => stmf_ha::draft(text, &place)?,
    };
    let path = place.path;
    draft.settle(&place).with_context(|| path.to_owned())
}

/// Where a target listens if nothing is said: on all IPv4 addresses, as with stmf-ha.
pub fn default_portal() -> Portal {
    Portal {
        address: Ipv4Addr::UNSPECIFIED.into(),
        port: names::PORT,
        iser: false,
    }
}

/// The iSCSI name of a target if nothing is said.
fn default_iqn(place: &Place) -> Result<String> {
    let pool = place.pool_name()?;
    stmf_ha_iqn(pool).map_err(|error| anyhow::anyhow!("{}: {error}", place.path))
}

/// The iSCSI name that stmf-ha gives to a target.
fn stmf_ha_iqn(target: &str) -> Result<String, String> {
    let name = format!("iqn.2010-08.org.illumos:stmf-ha:{target}");
    names::iqn(&name).map_err(|error| format!("\"{name}\" {error}"))
}
