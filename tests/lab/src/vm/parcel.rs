//! What a restored guest has to be given: the agents as they were built a moment ago, and the lab's own programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::exec;
use super::plan::{Guest, Role};
use super::snapshot::each;
use crate::agents::{build_guest, root};

/// Where the lab's own programs are in a guest.
const HOME: &str = "usr/local/lib/hastor-lab";

/// Unpacks the archive beside its places, on the same file system, and renames file by file.
const UNPACK: &str = r#"set -e
new=/var/lib/hastor-lab-new
rm -rf $new
mkdir $new
cd $new
tar -x -f -
find . ! -type d | while read -r file; do
	[ -d "/${file%/*}" ] || mkdir -p "/${file%/*}"
	mv -f "$file" "/$file"
done
cd /
rm -rf $new
sync"#;

/// A directory to be unpacked over the root of every guest.
pub struct Parcel {
    archive: Vec<u8>,
}

impl Parcel {
    /// Packs this program, and the agents that packaging/install has put under `target/lab/root`, if they were built.
    pub fn pack(agents: bool) -> Result<Parcel> {
        let directory = root().join("target/lab/parcel");
        let _ = fs::remove_dir_all(&directory);
        let home = directory.join(HOME);
        fs::create_dir_all(&home)?;
        stripped(Path::new("/proc/self/exe"), &home.join("lab"))?;
        stripped(&build_guest()?, &home.join("hastor-guest"))?;
        let mut command = Command::new("tar");
        command.args(["-c", "--owner=0", "--group=0", "--numeric-owner", "-f", "-"]);
        let built = root().join("target/lab/root");
        for place in [Some(&directory), agents.then_some(&built)]
            .into_iter()
            .flatten()
        {
            command.arg("-C").arg(place).args(files(place, place)?);
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("running tar")?;
        ensure!(
            output.status.success(),
            "tar: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Parcel {
            archive: output.stdout,
        })
    }

    /// Unpacks it in all guests at once, and has the heads answer their names. What is in use is replaced at once, as
    /// packaging/install does it: nobody meets half an agent.
    pub fn deliver(&self, guests: &[Guest]) -> Result<()> {
        each(guests, |guest| {
            let mut script = UNPACK.to_owned();
            if guest.role == Role::Head {
                script += " && systemctl start hastor-lab-serve";
            }
            exec::output(&guest.name, &["sh", "-c", &script], &self.archive).map(drop)
        })
    }
}

/// The files and links below a directory, by their paths in there. Directories are left out: the guest has most of them,
/// and unpacking would give them other rights.
fn files(base: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(base, &entry.path())?);
        } else {
            found.push(entry.path().strip_prefix(base)?.to_owned());
        }
    }
    Ok(found)
}

/// Copies a program without what only a debugger reads: a tenth of its size.
fn stripped(from: &Path, to: &Path) -> Result<()> {
    // Copied by this process, whose own executable /proc/self/exe is; in that of strip, it would be strip.
    fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    // Without binutils it only takes longer.
    let _ = Command::new("strip").arg(to).output();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
