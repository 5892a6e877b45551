//! `record`: what an agent reads of a kernel and of tools, kept as a tree for tests.
//!
//! `tests/trees/AGENT/CASE/root` is laid out as the machine's root, with empty files where reading is not allowed;
//! `commands/N` is what a command printed, with its words and its exit code in `commands/N.words`; `RECORDED` says when,
//! where and by which command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::exec;
use crate::agents::root;

/// What an agent reads: files and directories (with shell patterns), and what tools say.
struct Recipe {
    agent: &'static str,
    paths: &'static [&'static str],
    commands: &'static [&'static str],
}

const RECIPES: &[Recipe] = &[
    Recipe {
        agent: "vip",
        paths: &[
            "/proc/net/if_inet6",
            "/proc/net/fib_trie",
            "/proc/sys/net/ipv4/conf/*/promote_secondaries",
        ],
        commands: &[
            "ip -details -json address show",
            "ip -json route show table all",
            "ip -json addrlabel list",
        ],
    },
    Recipe {
        agent: "zfs-pool",
        paths: &[
            "/proc/spl/kstat/zfs",
            "/proc/self/mountinfo",
            "/proc/swaps",
            "/proc/sys/kernel/hostname",
            "/sys/module/zfs/version",
            "/sys/module/zfs/parameters",
            "/sys/module/spl/parameters/spl_hostid",
            "/sys/class/block",
            "/sys/class/block/*/dev",
            "/sys/class/block/*/partition",
            "/sys/class/block/*/holders",
            "/sys/class/block/*/slaves",
            "/sys/class/block/*/dm/uuid",
            "/sys/class/block/*/loop/backing_file",
            "/sys/kernel/config/target/core/*/*/udev_path",
            "/sys/kernel/config/nvmet/subsystems/*/namespaces/*/device_path",
            "/dev/disk/by-id",
            "/dev/zvol",
            "/etc/hostid",
            "/etc/zfs/zpool.cache",
            "/etc/systemd/system/*.target.wants",
            "/var/lib/nfs/etab",
        ],
        commands: &[
            "zpool list -Hp -o all",
            "zpool status -P",
            "zpool import",
            "zfs list -Hp -t all -o name,type,mountpoint,canmount,mounted,keystatus,volsize",
            "zpool get -Hp all",
        ],
    },
    Recipe {
        agent: "lio-target",
        paths: &[
            "/sys/kernel/config/target",
            "/sys/block/*/dev",
            "/sys/block/*/size",
        ],
        commands: &["targetcli ls"],
    },
    Recipe {
        agent: "nfs-export",
        paths: &[
            "/proc/fs/nfsd",
            "/proc/net/rpc",
            "/etc/exports",
            "/etc/exports.d",
            "/var/lib/nfs/etab",
            "/proc/self/mountinfo",
        ],
        commands: &["exportfs -v", "rpcinfo -p"],
    },
    Recipe {
        agent: "drbd-volume",
        paths: &[
            "/proc/drbd",
            "/sys/block/drbd*/size",
            "/sys/module/drbd/version",
            "/sys/module/drbd/parameters",
            "/etc/drbd.conf",
            "/etc/drbd.d",
        ],
        commands: &[
            "drbdsetup events2 --now",
            "drbdsetup status --verbose --statistics",
            "drbdsetup show",
            "drbdadm dump-xml",
        ],
    },
];

/// Copies paths into a directory and packs it. Files of /proc and /sys have no size: they are read to their end, and what
/// cannot be read is an empty file. A path that leads through links is copied to where it really is, with the link that
/// its directory may be; those of /proc are another process's by then, and stay as they are.
const COPY: &str = r#"
out=$(mktemp -d)
copy() {
	if [ -L "$1" ]; then mkdir -p "$out/root${1%/*}"; cp -P "$1" "$out/root$1"
	elif [ -d "$1" ]; then
		mkdir -p "$out/root$1"
		any=; for entry in "$1"/* "$1"/.[!.]*; do
			if [ -e "$entry" ] || [ -L "$entry" ]; then any=1; copy "$entry"; fi
		done
		[ -n "$any" ] || : >"$out/root$1/.gitkeep"
	elif [ -f "$1" ]; then mkdir -p "$out/root${1%/*}"; timeout 5 cat "$1" >"$out/root$1" 2>/dev/null
	fi
}
follow() {
	case $1 in /proc/*) copy "$1"; return; esac
	parent=${1%/*}
	[ -d "$parent" ] || return
	[ ! -L "$parent" ] || copy "$parent"
	copy "$(realpath "$parent")/${1##*/}"
}
while [ "$1" != -- ]; do for path in $1; do follow "$path"; done; shift; done
shift
mkdir "$out/commands"
number=1
for command; do
	timeout 60 sh -c "$command" >"$out/commands/$number" 2>"$out/commands/$number.errors" </dev/null
	echo "$?	$command" >"$out/commands/$number.words"
	[ -s "$out/commands/$number.errors" ] || rm "$out/commands/$number.errors"
	number=$((number + 1))
done
tar -c -C "$out" -f - . && rm -rf "$out"
"#;

/// Records a case; where it is.
pub fn record(node: &str, agent: &str, case: &str) -> Result<PathBuf> {
    let Some(recipe) = RECIPES.iter().find(|recipe| recipe.agent == agent) else {
        let known: Vec<&str> = RECIPES.iter().map(|recipe| recipe.agent).collect();
        bail!(
            "nothing is known about what {agent:?} reads: expected one of {}",
            known.join(", ")
        );
    };
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    ensure!(
        !case.is_empty() && !case.starts_with('.') && case.chars().all(fits),
        "case {case:?}: expected letters, digits, '-', '_' and '.', because it becomes a directory"
    );
    let place = root().join("tests/trees").join(agent).join(case);
    ensure!(
        !place.exists(),
        "{} is there already: remove it first",
        place.display()
    );
    let mut words = vec!["bash", "-c", COPY, "record"];
    words.extend(recipe.paths);
    words.push("--");
    words.extend(recipe.commands);
    let mut command = exec::command(node, &words)?;
    let packed = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("recording on {node}"))?;
    ensure!(
        packed.status.success(),
        "{node}: recording failed: {}",
        String::from_utf8_lossy(&packed.stderr).trim()
    );
    fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
    let unpacked = unpack(&packed.stdout, &place).and_then(|()| {
        let kernel = exec::output(node, &["uname", "-srv"], b"")?;
        let note = format!(
            "cargo lab record {node} {agent} {case}\n{}\n{}\n{}",
            kernel.trim(),
            recipe.paths.join(" "),
            recipe.commands.join("\n")
        );
        fs::write(place.join("RECORDED"), note + "\n").context("writing RECORDED")
    });
    if unpacked.is_err() {
        let _ = fs::remove_dir_all(&place);
    }
    unpacked.map(|()| place)
}

fn unpack(archive: &[u8], place: &Path) -> Result<()> {
    use std::io::Write;
    let mut tar = Command::new("tar")
        .args(["-x", "--no-same-owner", "-f", "-", "-C"])
        .arg(place)
        .stdin(Stdio::piped())
        .spawn()
        .context("running tar")?;
    if let Some(mut input) = tar.stdin.take() {
        input.write_all(archive).context("writing to tar")?;
    }
    ensure!(tar.wait()?.success(), "tar could not unpack the recording");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_through_links_is_read_through_links_of_the_copy() {
        let place = std::env::temp_dir().join(format!("hastor-lab-record-{}", std::process::id()));
        let (machine, copied) = (place.join("machine"), place.join("copied"));
        for directory in ["devices/disk/part", "devices/disk/holders", "class/block"] {
            fs::create_dir_all(machine.join(directory)).unwrap();
        }
        fs::create_dir_all(&copied).unwrap();
        fs::write(machine.join("devices/disk/dev"), "8:0\n").unwrap();
        fs::write(machine.join("devices/disk/part/dev"), "8:1\n").unwrap();
        for (name, target) in [("sda", "disk"), ("sda1", "disk/part")] {
            let target = format!("../../devices/{target}");
            std::os::unix::fs::symlink(target, machine.join("class/block").join(name)).unwrap();
        }
        let root = machine.to_string_lossy().into_owned();
        let block = format!("{root}/class/block");
        let words = [
            "-c",
            COPY,
            "record",
            &block,
            &format!("{block}/*/dev"),
            &format!("{block}/*/holders"),
            &format!("{block}/*/absent"),
            "--",
            "echo said",
        ];
        let packed = Command::new("bash").args(words).output().unwrap();
        assert!(packed.status.success(), "{packed:?}");
        unpack(&packed.stdout, &copied).unwrap();
        let read = |path: &str| fs::read_to_string(copied.join(path));
        let block = format!("root{root}/class/block");
        assert_eq!(read(&format!("{block}/sda/dev")).unwrap(), "8:0\n");
        assert_eq!(read(&format!("{block}/sda1/dev")).unwrap(), "8:1\n");
        assert!(
            fs::symlink_metadata(copied.join(&block).join("sda1"))
                .unwrap()
                .is_symlink()
        );
        assert!(copied.join(&block).join("sda/part/dev").exists());
        assert!(copied.join(&block).join("sda/holders").is_dir());
        assert_eq!(read("commands/1").unwrap(), "said\n");
        fs::remove_dir_all(place).unwrap();
    }
}
