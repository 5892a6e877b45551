//! What is wanted, from the parameters or from a definition.

use host::Host;
use ocf::{Secret, prelude::*};

use crate::definition::{self, Definition};
use crate::digest::hex;
use crate::target::LioTarget;
use crate::values::{Backstore, LunWord};
use crate::wanted::{Access, Backing, Chap, Initiator, Lun, Mapped, Portal, Target, Unit, Wanted};

/// What the resource is to put into the kernel; None if its definition is not there, so that nothing is.
pub fn wanted(agent: &LioTarget, node: &Node) -> Result<Option<Definition>> {
    for (name, value, instead) in [
        ("scsi_sn", &agent.scsi_sn, "serial"),
        ("product_id", &agent.product_id, "product"),
    ] {
        if let Some(value) = value.as_ref().filter(|_| agent.path.is_none()) {
            bail!(Exit::NotConfigured.because(format!(
                "parameter {name}: \"{value}\" given without path; expected it with a target of one LUN only (in luns: {instead}=...)"
            )));
        }
    }
    let mut definition = match &agent.definition {
        Some(path) => match definition::read(node, path)? {
            Some(definition) => definition,
            None => return Ok(None),
        },
        None => {
            let wanted = from_parameters(agent, node)?;
            definition::rules::check(&wanted)?;
            Definition {
                wanted,
                assigned: Vec::new(),
            }
        }
    };
    for unit in &mut definition.wanted.units {
        // Initiators of VMware compare the first eight characters only.
        let product = || hex(&unit.serial, 8);
        unit.product.get_or_insert_with(product);
    }
    Ok(Some(definition))
}

fn from_parameters(agent: &LioTarget, node: &Node) -> Result<Wanted> {
    let iqn =
        agent
            .iqn
            .clone()
            .context(Exit::NotConfigured.because(
                "parameter iqn: required without a definition, but not given".to_owned(),
            ))?;
    let resource = node.call().resource();
    let numbered: Vec<(u16, Unit)> = match &agent.path {
        // As ocf:heartbeat:iSCSILogicalUnit makes it, so that a disk stays the same disk.
        Some(path) => {
            let serial = agent.scsi_sn.clone().unwrap_or_else(|| hex(resource, 8));
            let product = agent.product_id.clone();
            let unit = unit(agent, agent.lun, path, serial, product, false);
            vec![(agent.lun, unit)]
        }
        None => {
            let words = agent.luns.0.iter();
            words
                .map(|word| (word.number, of_word(agent, resource, word)))
                .collect()
        }
    };
    let luns: Vec<Lun> = numbered
        .iter()
        .map(|(number, unit)| Lun {
            number: *number,
            unit: unit.name.clone(),
        })
        .collect();
    let initiator = |name: &String| Initiator {
        name: name.clone(),
        chap: None,
        depth: None,
        luns: luns
            .iter()
            .map(|lun| Mapped {
                number: lun.number,
                lun: lun.number,
                read_only: false,
            })
            .collect(),
    };
    let access = match agent.allowed_initiators.0.as_slice() {
        [] => Access::Anyone,
        names => Access::Only(names.iter().map(initiator).collect()),
    };
    let target = Target {
        iqn,
        tag: agent.tpgt,
        portals: portals(agent),
        attributes: agent.tpg_attributes.0.clone(),
        parameters: agent.additional_parameters.0.clone(),
        chap: chap(agent, node)?,
        luns,
        access,
    };
    Ok(Wanted {
        units: numbered.into_iter().map(|(_, unit)| unit).collect(),
        targets: vec![target],
    })
}

fn of_word(agent: &LioTarget, resource: &str, word: &LunWord) -> Unit {
    let own = || hex(&format!("{resource}:{}", word.number), 25);
    let serial = word.serial.clone().unwrap_or_else(own);
    let product = word.product.clone();
    unit(
        agent,
        word.number,
        &word.path,
        serial,
        product,
        word.read_only,
    )
}

fn unit(
    agent: &LioTarget,
    number: u16,
    path: &str,
    serial: String,
    product: Option<String>,
    read_only: bool,
) -> Unit {
    let path = path.to_owned();
    let backing = match agent.liot_bstype {
        Backstore::Block => Backing::Block {
            path,
            read_only,
            write_back: agent.write_cache.is_on(),
        },
        Backstore::Fileio => Backing::File {
            path,
            size: None,
            write_back: agent.write_cache.is_on(),
        },
        Backstore::Pscsi => Backing::Scsi { path },
    };
    let mut attributes = agent.attributes.0.clone();
    let mut add = |name: &str, value: String| {
        if !attributes.iter().any(|(known, _)| known == name) {
            attributes.push((name.to_owned(), value));
        }
    };
    if let Some(size) = agent.block_size {
        add("block_size", size.to_string());
    }
    for (name, flag) in [
        ("emulate_tpu", agent.emulate_tpu),
        ("emulate_3pc", agent.emulate_3pc),
        ("emulate_caw", agent.emulate_caw),
    ] {
        if let Some(flag) = flag {
            add(name, u8::from(flag.is_on()).to_string());
        }
    }
    Unit {
        name: number.to_string(),
        backing,
        serial,
        company_id: None,
        vendor: agent.vendor_id.clone(),
        product,
        revision: None,
        attributes,
    }
}

fn portals(agent: &LioTarget) -> Vec<Portal> {
    let mut portals = agent.portals.0.clone();
    if portals.is_empty() && agent.iser_portals.0.is_empty() {
        portals.push(definition::default_portal());
    }
    for wanted in &agent.iser_portals.0 {
        match portals
            .iter_mut()
            .find(|portal| (portal.address, portal.port) == (wanted.address, wanted.port))
        {
            Some(portal) => portal.iser = true,
            None => portals.push(Portal {
                iser: true,
                ..wanted.clone()
            }),
        }
    }
    portals
}

fn chap(agent: &LioTarget, node: &Host) -> Result<Option<Chap>> {
    let Some(user) = agent.incoming_username.clone() else {
        return Ok(None);
    };
    let mut lines = match &agent.password_file {
        Some(path) => secrets(node, path)?.into_iter(),
        None => Vec::new().into_iter(),
    };
    let missing = |name: &str| {
        Exit::NotConfigured.because(format!(
            "parameter {name}: required with a user name, but given neither here nor in password_file"
        ))
    };
    let password = agent.incoming_password.clone().or_else(|| lines.next());
    let password = password.context(missing("incoming_password"))?;
    let mutual = match agent.outgoing_username.clone() {
        None => None,
        Some(user) => {
            let password = agent.outgoing_password.clone().or_else(|| lines.next());
            Some((user, password.context(missing("outgoing_password"))?))
        }
    };
    Ok(Some(Chap {
        user,
        password,
        mutual,
    }))
}

/// The lines of a file that only root can read.
fn secrets(host: &Host, path: &str) -> Result<Vec<Secret>> {
    let text = definition::secrets(host, path).context("parameter password_file")?;
    let lines = text.reveal().lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty())
        .map(Secret::new)
        .collect())
}
