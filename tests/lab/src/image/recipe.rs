//! What the guest image is made of. Its hash names the image: whatever goes into it is text of this module.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::layout;

/// The Debian release of the guests.
pub const SUITE: &str = "trixie";

/// Everything but the essential packages; recommended packages are not installed.
const PACKAGES: &[&str] = &[
    // a system that boots, and a kernel with DRBD, LIO, nfsd, netem and veth
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "initramfs-tools",
    "linux-image-amd64",
    "linux-headers-amd64",
    "qemu-guest-agent",
    // the cluster
    "corosync",
    "pacemaker",
    "pacemaker-cli-utils",
    "crmsh",
    "pcs",
    "libxml2-utils",
    // the agents to compare with
    "resource-agents",
    "fence-agents-ipmilan",
    "fence-agents-scsi",
    "ipmitool",
    // portblock's
    "iptables",
    // storage
    "zfs-dkms",
    "zfsutils-linux",
    "drbd-utils",
    "targetcli-fb",
    "lvm2",
    "nfs-kernel-server",
    "nfs-common",
    "open-iscsi",
    "libiscsi-bin",
    "multipath-tools",
    "sg3-utils",
    "lsscsi",
    "parted",
    "gdisk",
    "xfsprogs",
    "e2fsprogs",
    "fio",
    // looking at things, and breaking them
    "procps",
    "psmisc",
    "iproute2",
    "iputils-ping",
    "iputils-arping",
    "ethtool",
    "netcat-openbsd",
    "nftables",
    "tcpdump",
    "strace",
    "less",
    "vim-tiny",
];

/// What the initial RAM disk holds, and no more: it is unpacked at every boot.
const INITIAL_MODULES: &str = "virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\next4\n";

/// What udev and systemd would load at every boot, and no guest uses: virtualisation, which QEMU's emulated processor
/// offers, devices that its mainboard has, and instructions that are not faster when they are emulated.
const UNUSED_MODULES: &str = "blacklist kvm_amd
blacklist kvm_intel
blacklist kvm
blacklist floppy
blacklist ata_generic
blacklist ata_piix
blacklist i2c_piix4
blacklist pcspkr
blacklist psmouse
blacklist serio_raw
blacklist drm
blacklist efi_pstore
blacklist cfg80211
blacklist aesni_intel
blacklist ghash_clmulni_intel
blacklist sha1_ssse3
blacklist sha256_ssse3
blacklist sha512_ssse3
";

/// Runs inside the finished root.
const SETUP: &str = include_str!("setup.sh");

/// Root on the serial console, without a question.
const CONSOLE: &str = "[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200 - $TERM
";

/// Size of the root disk. The file has holes: it takes what is in it.
const SIZE: &str = "6G";

/// The networks of a guest: name of the interface, number in its MAC address.
pub const NETWORKS: &[(&str, u8)] = &[("ring0", 1), ("lan0", 2), ("repl0", 3), ("mgmt0", 4)];

/// The words for mmdebstrap, which runs in a directory with [`write`]'s files and makes `root` there.
pub fn bootstrap_words() -> Vec<String> {
    vec![
        "--mode=root".into(),
        "--variant=minbase".into(),
        // zfs-dkms is in contrib.
        "--components=main,contrib".into(),
        "--verbose".into(),
        format!("--include={}", PACKAGES.join(",")),
        // Before the kernel is installed, so that its initial RAM disk is made once and right.
        "--essential-hook=sync-in files /".into(),
        "--customize-hook=chroot \"$1\" sh -eu -s <setup.sh".into(),
        SUITE.into(),
        "root".into(),
    ]
}

/// The words for mke2fs.
pub fn file_system_words() -> Vec<String> {
    let words = "-q -F -t ext4 -L hastor-lab -m 0 -d root root.img";
    words.split(' ').chain([SIZE]).map(str::to_owned).collect()
}

/// The files that are added to the root: path and content.
fn files() -> Vec<(String, String)> {
    let fixed = [
        (
            "etc/initramfs-tools/conf.d/hastor-lab",
            "MODULES=list\nCOMPRESS=zstd\n",
        ),
        (
            "usr/share/initramfs-tools/modules.d/hastor-lab",
            INITIAL_MODULES,
        ),
        ("etc/modprobe.d/hastor-lab.conf", UNUSED_MODULES),
        (
            "etc/systemd/system/serial-getty@ttyS0.service.d/hastor-lab.conf",
            CONSOLE,
        ),
    ];
    let fixed = fixed
        .into_iter()
        .map(|(path, text)| (path.to_owned(), text.to_owned()));
    fixed.chain(NETWORKS.iter().flat_map(network)).collect()
}

/// Names an interface and gives it its address, both by the MAC address it was made with: the node is its last byte.
fn network(&(interface, number): &(&str, u8)) -> Vec<(String, String)> {
    // Nodes, the shelf and the clients.
    let nodes = (1..=layout::MOST_NODES as u8).chain([250, 252, 253, 254]);
    let macs: Vec<String> = nodes.clone().map(|node| mac(number, node)).collect();
    let link = format!(
        "[Match]\nMACAddress={}\n\n[Link]\nName={interface}\n",
        macs.join(" ")
    );
    let mut files = vec![(format!("etc/systemd/network/10-{interface}.link"), link)];
    for node in nodes {
        let addresses = match interface {
            "ring0" => vec![format!("{}/24", layout::ring_address(node))],
            "lan0" => vec![
                format!("{}/24", layout::service_address(node)),
                format!("{}/64", layout::service_address6(node)),
            ],
            _ => vec![format!("10.77.{number}.{node}/24")],
        };
        let addresses: String = addresses.iter().map(|a| format!("Address={a}\n")).collect();
        // Without a router and its advertisements, nothing is to be waited for.
        let text = format!(
            "[Match]\nMACAddress={}\n\n[Network]\n{addresses}IPv6AcceptRA=no\nConfigureWithoutCarrier=yes\n",
            mac(number, node)
        );
        files.push((
            format!("etc/systemd/network/20-{interface}-{node}.network"),
            text,
        ));
    }
    files
}

/// The MAC address of a node on a network.
pub fn mac(network: u8, node: u8) -> String {
    format!("52:54:00:77:{network:02x}:{node:02x}")
}

/// Writes everything that [`bootstrap_words`] speaks of.
pub fn write(directory: &Path) -> Result<()> {
    for (path, text) in files() {
        let path = directory.join("files").join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    fs::write(directory.join("setup.sh"), SETUP).context("writing setup.sh")
}

/// Sixteen hexadecimal digits that change with anything that goes into the image.
pub fn hash() -> String {
    let mut parts = bootstrap_words();
    parts.extend(file_system_words());
    for (path, text) in files() {
        parts.extend([path, text]);
    }
    parts.push(SETUP.to_owned());
    hash_of(&parts)
}

/// Sixteen hexadecimal digits that change with any of these texts.
pub fn hash_of(texts: &[String]) -> String {
    let mut hash = Fnv::new();
    texts.iter().for_each(|text| hash.add(text));
    format!("{:016x}", hash.0)
}

/// FNV-1a: the standard library's hash may change with the compiler, and a build takes minutes.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, text: &str) {
        // The length too: moving a letter from one text to the next is a change.
        let length = (text.len() as u64).to_le_bytes();
        for byte in length.iter().chain(text.as_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_every_change() {
        let of = |texts: &[&str]| {
            hash_of(
                &texts
                    .iter()
                    .map(|text| (*text).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
        assert_eq!(hash(), hash());
    }

    #[test]
    fn every_file_is_written_where_the_words_expect_it() {
        let directory =
            std::env::temp_dir().join(format!("hastor-lab-recipe-{}", std::process::id()));
        write(&directory).unwrap();
        let network = directory.join("files/etc/systemd/network/20-ring0-2.network");
        let network = fs::read_to_string(network).unwrap();
        let setup = fs::read_to_string(directory.join("setup.sh")).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert!(
            network.contains("MACAddress=52:54:00:77:01:02")
                && network.contains("Address=10.77.0.2/24")
        );
        assert_eq!(setup, SETUP);
    }
}
