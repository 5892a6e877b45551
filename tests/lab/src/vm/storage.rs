//! Disks for the guests of a test, and where they find them.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Guests;
use super::exec;
use super::plan::{Network, Plan, Role};
use crate::control;
use crate::layout::{self, SHELF};

/// For udev in all guests; ten times what was seen under emulation.
const APPEAR: Duration = Duration::from_secs(120);

/// A disk, as the room lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name in the lab, and its serial number.
    pub name: String,
    /// The same in every guest.
    pub wwn: String,
    /// The guests that see it, with what is wrong behind a colon.
    pub guests: Vec<String>,
}

impl Disk {
    /// Its path in a guest that has it.
    pub fn path(&self) -> String {
        format!("/dev/disk/by-id/wwn-{}", self.wwn)
    }
}

/// All disks of the running lab.
pub fn disks() -> Result<Vec<Disk>> {
    Ok(parse(&control::ask(&["disk", "list"])?))
}

fn parse(text: &str) -> Vec<Disk> {
    let disk = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (name, _size, wwn) = (words.next()?, words.next()?, words.next()?);
        Some(Disk {
            name,
            wwn,
            guests: words.collect(),
        })
    };
    text.lines().filter_map(disk).collect()
}

/// A size as users write it: 512M, 2G; without a letter, bytes.
pub fn size(text: &str) -> Result<u64> {
    let (digits, shift) = match text.trim_end_matches("iB").char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        Some((at, 'T' | 't')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number = digits.parse::<u64>().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| *bytes > 0)
        .with_context(|| format!("size {text:?}: expected bytes, or a number with K, M, G or T"))
}

/// Adds so many disks, named `PREFIX1` and so on, numbered on from those that are there, to each of these guests; they
/// are there when this returns.
pub fn add(prefix: &str, count: usize, size: u64, guests: &[String]) -> Result<Vec<Disk>> {
    let known = disks()?;
    let mut names = Vec::new();
    let free = (1..).filter_map(|number| {
        let name = format!("{prefix}{number}");
        (!known.iter().any(|disk| disk.name == name)).then_some(name)
    });
    for name in free.take(count) {
        let size = size.to_string();
        let mut words = vec!["disk", "add", &name, &size];
        words.extend(guests.iter().map(String::as_str));
        control::ask(&words)?;
        names.push(name);
    }
    let added: Vec<Disk> = disks()?
        .into_iter()
        .filter(|disk| names.contains(&disk.name))
        .collect();
    ensure!(
        added.len() == count,
        "{count} disks were added, the lab lists {added:?}"
    );
    let paths: Vec<String> = added.iter().map(Disk::path).collect();
    for guest in guests {
        wait_for_paths(guest, &paths)?;
    }
    Ok(added)
}

/// Waits until udev has made these links in a guest.
pub fn wait_for_paths(guest: &str, paths: &[String]) -> Result<()> {
    // One process for all of them: under emulation each costs.
    let script = r#"end=$((SECONDS + $1)); shift
for path; do
	until [ -e "$path" ]; do
		[ $SECONDS -lt $end ] || { echo "no $path"; exit 1; }
		sleep 0.05
	done
done"#;
    let bound = APPEAR.as_secs().to_string();
    let mut words = vec!["bash", "-c", script, "wait", &bound];
    words.extend(paths.iter().map(String::as_str));
    exec::output(guest, &words, b"")
        .map(drop)
        .with_context(|| format!("waiting for disks in {guest}"))
}

/// What a client with several paths to a disk sets: they are gathered, who has the better state is used, and when none is
/// left, it waits.
const MULTIPATH: &str = r#"set -e
cat >/etc/multipath.conf <<END
defaults {
	find_multipaths no
	user_friendly_names no
	polling_interval 1
	max_polling_interval 1
}
overrides {
	path_grouping_policy group_by_prio
	prio alua
	path_checker tur
	failback immediate
	no_path_retry queue
}
END
modprobe -a dm_multipath scsi_dh_alua
systemctl start multipathd
"#;

/// Has a client gather the paths that it will have to each disk.
pub fn gather_paths(client: &str) -> Result<()> {
    exec::output(client, &["sh", "-c", MULTIPATH], b"")
        .map(drop)
        .context("multipath")
}

/// Where a client that has logged in at an address finds a LUN.
pub fn by_path(address: &str, iqn: &str, lun: usize) -> String {
    format!("/dev/disk/by-path/ip-{address}:3260-iscsi-{iqn}-lun-{lun}")
}

/// Who a disk is, for a guest: its NAA identifier, by which multipath knows it, too.
pub fn identity(guest: &str, path: &str) -> Result<String> {
    let words = ["/usr/lib/udev/scsi_id", "-g", "-u", "-d", path];
    Ok(exec::output(guest, &words, b"")?.trim().to_owned())
}

/// The name of the shelf's target.
const SHELF_TARGET: &str = "iqn.2026-01.example.hastor:shelf";

/// Exports disks of the shelf as one target, one LUN each, in addition to those that are exported already. Written for
/// bash: PREFIX and a path for each.
const EXPORT: &str = r#"set -e
target=/sys/kernel/config/target
tpg=$target/iscsi/$1/tpgt_1
portal=$2
shift 2
mkdir -p $target/core/iblock_0 $tpg
# Without this place for its notes the kernel refuses every registration: not ready.
mkdir -p "$(cat $target/dbroot)/pr" "$(cat $target/dbroot)/alua"
for attribute in authentication=0 generate_node_acls=1 demo_mode_write_protect=0 cache_dynamic_acls=1; do
	echo ${attribute#*=} >$tpg/attrib/${attribute%=*}
done
while [ $# -gt 0 ]; do
	lun=$1 serial=$2 path=$3
	shift 3
	back=$target/core/iblock_0/shelf$lun
	mkdir $back
	echo "udev_path=$path" >$back/control
	echo 1 >$back/enable
	echo $serial >$back/wwn/vpd_unit_serial
	mkdir $tpg/lun/lun_$lun
	ln -s $back $tpg/lun/lun_$lun/shelf
done
[ -e $tpg/np/$portal ] || mkdir $tpg/np/$portal
echo 1 >$tpg/enable
"#;

/// Logs a head in, or has it look again.
const LOGIN: &str = r#"set -e
iscsiadm -m discovery -t sendtargets -p $2 >/dev/null
iscsiadm -m session 2>/dev/null | grep -q "$1" && iscsiadm -m session --rescan >/dev/null || iscsiadm -m node -T $1 -p $2 --login >/dev/null
"#;

/// The serial number of a LUN of the shelf: LIO makes the WWN of its hexadecimal digits.
fn shelf_serial(lun: usize) -> String {
    format!("{lun:025x}0000000")
}

/// Where every head finds a LUN of the shelf.
pub fn shelf_path(lun: usize) -> String {
    let digits: String = shelf_serial(lun).chars().take(25).collect();
    format!("/dev/disk/by-id/wwn-0x6001405{digits}")
}

/// Adds disks to the shelf, which exports them to all heads over iSCSI; the paths at which the heads find them.
pub fn add_to_shelf(plan: &Plan, count: usize, size: u64) -> Result<Vec<String>> {
    if !plan.shelf {
        bail!("this lab has no shelf: `cargo lab vm up --shelf`");
    }
    let shelf = plan.guest(SHELF)?;
    let first = disks()?
        .iter()
        .filter(|disk| disk.guests.iter().any(|guest| guest.starts_with(SHELF)))
        .count();
    let added = add("shelf", count, size, &[SHELF.to_owned()])?;
    let portal = format!("{}:3260", layout::replication_address(shelf.number));
    let mut words = vec![
        "bash".to_owned(),
        "-c".to_owned(),
        EXPORT.to_owned(),
        "export".to_owned(),
        SHELF_TARGET.to_owned(),
        portal.clone(),
    ];
    let mut paths = Vec::new();
    for (index, disk) in added.iter().enumerate() {
        let lun = first + index + 1;
        words.extend([lun.to_string(), shelf_serial(lun), disk.path()]);
        paths.push(shelf_path(lun));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    exec::output(SHELF, &words, b"").context("exporting the disks of the shelf")?;
    for head in plan
        .guests()?
        .iter()
        .filter(|guest| guest.role == Role::Head)
    {
        debug_assert!(head.networks().contains(&Network::Replication));
        let words = ["bash", "-c", LOGIN, "login", SHELF_TARGET, &portal];
        exec::output(&head.name, &words, b"").context("logging in to the shelf")?;
        wait_for_paths(&head.name, &paths)?;
    }
    Ok(paths)
}

impl Guests {
    /// Adds disks that all heads have, as on a SAS shelf: the same serial number and WWN everywhere.
    pub fn shared_disks(&self, count: usize, text: &str) -> Result<Vec<Disk>> {
        add("shared", count, size(text)?, &self.plan.heads())
    }

    /// Adds disks that only this guest has.
    pub fn local_disks(&self, guest: &str, count: usize, text: &str) -> Result<Vec<Disk>> {
        add(
            &format!("{guest}-"),
            count,
            size(text)?,
            &[guest.to_owned()],
        )
    }

    /// Adds disks to the shelf; the paths at which the heads find them.
    pub fn shelf_disks(&self, count: usize, text: &str) -> Result<Vec<String>> {
        add_to_shelf(&self.plan, count, size(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("512M").unwrap(), 512 << 20);
        assert_eq!(size("2GiB").unwrap(), 2 << 30);
        assert_eq!(size("4096").unwrap(), 4096);
        for wrong in ["", "G", "-1G", "1.5G", "0", "99999999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn disks_of_the_room() {
        let text = "shared1 1048576 0x3000000048410001 n1 n2:pulled\n";
        let disks = parse(text);
        assert_eq!(disks[0].path(), "/dev/disk/by-id/wwn-0x3000000048410001");
        assert_eq!(disks[0].guests, ["n1", "n2:pulled"]);
        let path = "/dev/disk/by-id/wwn-0x60014050000000000000000000000001";
        assert_eq!(shelf_path(1), path);
    }
}
