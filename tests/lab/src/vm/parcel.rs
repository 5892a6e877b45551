//! What a restored guest has to be given: the agents as they were built a moment ago, and the lab's own programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::exec;
use super::plan::{Guest, Role};
use super::snapshot::each;
use crate::agents::root;
use crate::layout::STATE;

/// Where this program is in a guest. `/run` is empty after a boot, so this is where it really lies.
const HOME: &str = "usr/local/lib/hastor-lab";

/// Makes `/run/hastor-lab/bin/lab`, where this program is in every machine of every lab, after a boot, too.
const TMPFILES: &str = "d /run/hastor-lab 0755 root root\nL /run/hastor-lab/bin - - - - /usr/local/lib/hastor-lab\n";

/// Answers the name of the node over TCP: what a client asks for at a floating address.
const SERVICE: &str = "[Unit]
Description=Answers the name of this node

[Service]
ExecStart=/run/hastor-lab/bin/lab serve %H
Restart=always

[Install]
WantedBy=multi-user.target
";

/// Run in each guest, with the parcel as its input.
const UNPACK: &str = "set -e
tar -x -C / --no-overwrite-dir -f -
systemd-tmpfiles --create /etc/tmpfiles.d/hastor-lab.conf
sync";

/// Run in each head afterwards.
const SERVE: &str = "set -e
unit=hastor-lab-serve.service
ln -sf /etc/systemd/system/$unit /etc/systemd/system/multi-user.target.wants/
systemctl daemon-reload
systemctl restart $unit";

/// A directory to be unpacked over the root of every guest.
pub struct Parcel {
    archive: Vec<u8>,
}

impl Parcel {
    /// Packs this program, and the agents that packaging/install has put under `target/lab/root`, if they were built.
    pub fn pack(agents: bool) -> Result<Parcel> {
        let directory = PathBuf::from(format!("{STATE}/parcel"));
        let _ = fs::remove_dir_all(&directory);
        let put = |path: &str, text: &str| -> Result<()> {
            let path = directory.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        put("etc/tmpfiles.d/hastor-lab.conf", TMPFILES)?;
        put("etc/systemd/system/hastor-lab-serve.service", SERVICE)?;
        let home = directory.join(HOME);
        fs::create_dir_all(&home)?;
        stripped(Path::new("/proc/self/exe"), &home.join("lab"))?;
        let mut command = Command::new("tar");
        command.args(["-c", "--owner=0", "--group=0", "--numeric-owner", "-f", "-"]);
        command.arg("-C").arg(&directory).arg(".");
        let built = root().join("target/lab/root");
        if agents {
            command.arg("-C").arg(built).arg(".");
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

    /// Unpacks it in all guests at once.
    pub fn deliver(&self, guests: &[Guest]) -> Result<()> {
        each(guests, |guest| {
            exec::output(&guest.name, &["sh", "-c", UNPACK], &self.archive)?;
            if guest.role == Role::Head {
                exec::output(&guest.name, &["sh", "-c", SERVE], b"")?;
            }
            Ok(())
        })
    }
}

/// Copies a program without what only a debugger reads: a tenth of its size.
fn stripped(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("strip").arg("-o").arg(to).arg(from).output();
    if !output.is_ok_and(|output| output.status.success()) {
        // Without binutils it only takes longer.
        fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
