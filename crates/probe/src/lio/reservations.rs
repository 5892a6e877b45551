//! SCSI-3 persistent reservations as the kernel keeps them: the file `aptpl_SERIAL`, which it writes for initiators that ask
//! for it (Activate Persist Through Power Loss), and the attribute `res_aptpl_metadata`, which takes them back.
//!
//! The kernel writes the file anew in place at each change, without a word to the disk in between: after a power loss it may
//! be cut. One that is whole ends each registration it begins.

use anyhow::{Result, bail, ensure};

/// One registration, as the fields of the file: `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    fields: Vec<(String, String)>,
}

/// What the kernel writes when nobody is registered.
const NOBODY: &str = "No Registrations or Reservations";

/// Without these the kernel cannot take a registration back.
const REQUIRED: [&str; 5] = [
    "initiator_node",
    "sa_res_key",
    "target_node",
    "mapped_lun",
    "target_lun",
];

impl Registration {
    /// Reads a file; an error if it is cut or is something else.
    pub fn parse_file(text: &str) -> Result<Vec<Registration>> {
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        if text.is_empty() {
            bail!("it is empty");
        }
        let mut found = Vec::new();
        let mut open: Option<(String, Vec<(String, String)>)> = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line.starts_with(NOBODY) {
                ensure!(
                    found.is_empty() && open.is_none(),
                    "it has registrations and says that it has none"
                );
                return Ok(found);
            }
            if let Some(number) = line.strip_prefix("PR_REG_START:") {
                ensure!(
                    open.is_none(),
                    "a registration begins before another has ended"
                );
                open = Some((number.trim().to_owned(), Vec::new()));
            } else if let Some(number) = line.strip_prefix("PR_REG_END:") {
                match open.take() {
                    Some((begun, fields)) if begun == number.trim() => {
                        found.push(Registration::new(fields)?)
                    }
                    _ => bail!("a registration ends that did not begin"),
                }
            } else {
                match (&mut open, line.split_once('=')) {
                    (Some((_, fields)), Some((name, value))) => {
                        fields.push((name.trim().to_owned(), value.trim().to_owned()))
                    }
                    _ => bail!("\"{line}\" is no part of a registration"),
                }
            }
        }
        ensure!(open.is_none(), "it is cut within a registration");
        Ok(found)
    }

    fn new(fields: Vec<(String, String)>) -> Result<Registration> {
        let registration = Registration { fields };
        for name in REQUIRED {
            ensure!(
                registration.field(name).is_some(),
                "a registration has no {name}"
            );
        }
        Ok(registration)
    }

    fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(known, _)| known == name);
        field.map(|(_, value)| value.as_str())
    }

    /// The initiator that is registered.
    pub fn initiator(&self) -> &str {
        self.field("initiator_node").unwrap_or_default()
    }

    /// The LUN as the initiator sees it.
    pub fn mapped_lun(&self) -> Option<u16> {
        self.field("mapped_lun")?.parse().ok()
    }

    /// Does it hold the reservation?
    pub fn is_holder(&self) -> bool {
        self.field("res_holder") == Some("1")
    }

    /// As `res_aptpl_metadata` takes it. The kernel writes the type with two digits, and reads one that begins with 0 as an
    /// octal number: `08` (Exclusive Access, All Registrants) it would not take back.
    pub fn to_attribute(&self) -> String {
        let field = |(name, value): &(String, String)| match name.as_str() {
            "res_type" | "res_scope" => {
                let digits = value.trim_start_matches('0');
                format!("{name}={}", if digits.is_empty() { "0" } else { digits })
            }
            _ => format!("{name}={value}"),
        };
        let fields: Vec<String> = self.fields.iter().map(field).collect();
        fields.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "PR_REG_START: 0
initiator_fabric=iSCSI
initiator_node=iqn.2026-01.example:a
initiator_sid=00023d000001
sa_res_key=43981
res_holder=1
res_type=05
res_scope=00
res_all_tg_pt=0
mapped_lun=1
target_fabric=iSCSI
target_node=iqn.2026-01.example:target
tpgt=1
port_rtpi=1
target_lun=1
PR_REG_END: 0
PR_REG_START: 1
initiator_fabric=iSCSI
initiator_node=iqn.2026-01.example:b
sa_res_key=2
res_holder=0
res_all_tg_pt=0
mapped_lun=1
target_fabric=iSCSI
target_node=iqn.2026-01.example:target
tpgt=1
port_rtpi=1
target_lun=1
PR_REG_END: 1
\0";

    #[test]
    fn a_registration_is_given_back_as_it_was() {
        let found = Registration::parse_file(TWO).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].initiator(), found[0].is_holder()),
            ("iqn.2026-01.example:a", true)
        );
        assert_eq!(
            (found[1].mapped_lun(), found[1].is_holder()),
            (Some(1), false)
        );
        assert!(found[0].to_attribute().starts_with(
            "initiator_fabric=iSCSI,initiator_node=iqn.2026-01.example:a,initiator_sid="
        ));
    }

    #[test]
    fn a_type_is_no_octal_number() {
        let text = TWO.replace("res_type=05", "res_type=08");
        let found = Registration::parse_file(&text).unwrap();
        let attribute = found[0].to_attribute();
        assert!(
            attribute.contains(",res_type=8,res_scope=0,"),
            "{attribute}"
        );
    }

    #[test]
    fn nobody_is_registered() {
        let text = format!("{NOBODY}\0");
        assert_eq!(Registration::parse_file(&text).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_no_file() {
        let whole = TWO.trim_end_matches('\0').trim_end();
        let first = whole.find("PR_REG_START: 1").unwrap();
        for length in 0..whole.len() {
            let cut = Registration::parse_file(&whole[..length]);
            match cut {
                // Between two registrations nothing tells that there was a second.
                Ok(found) => assert!(
                    found.len() == 1 && (first - 2..=first).contains(&length),
                    "{length}: {found:?}"
                ),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}
