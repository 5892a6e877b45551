//! What is held is busy, and no more once the holder ends.

// A test runs programs.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used
)]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A holder that has said "held"; killed when a test fails.
struct Holder(Child);

impl Holder {
    fn of(path: &Path, how: &str) -> Holder {
        let mut command = hold(path, how);
        let mut holder = Holder(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        let stdout = holder.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        holder
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0.id()))
    }

    /// The files that it has open, besides its standard ones.
    fn open_files(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.proc("fd")).unwrap();
        let names = all.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
        names
            .filter(|name| name.is_absolute() && !name.starts_with("/dev/null"))
            .collect()
    }

    fn ends(mut self) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hold(path: &Path, how: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hastor-guest"));
    command.args(["hold", "--how", how, "--path"]).arg(path);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn each_way_holds() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let file = dir.join("file");
    fs::write(&file, "text").unwrap();

    let open = Holder::of(&file, "open");
    assert!(open.open_files().contains(&file));
    open.ends();

    let mapped = Holder::of(&file, "mmap");
    assert!(!mapped.open_files().contains(&file));
    let maps = fs::read_to_string(mapped.proc("maps")).unwrap();
    assert!(maps.contains(file.to_str().unwrap()), "{maps}");
    mapped.ends();

    let inside = Holder::of(&dir, "cwd");
    assert_eq!(fs::read_link(inside.proc("cwd")).unwrap(), dir);
    inside.ends();
}

#[test]
fn a_look_holds_nothing() {
    let mut look = hold(Path::new("/"), "cwd");
    let output = look.arg("--once").output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout),
        (Some(0), b"held\n".to_vec())
    );
}

#[test]
fn what_cannot_be_held_is_told_in_one_line() {
    for (how, what) in [
        ("open", "opening it"),
        ("cwd", "entering it"),
        ("mmap", "opening it"),
    ] {
        let output = hold(Path::new("/no/such"), how).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let expected =
            format!("hastor-guest: /no/such: {what}: No such file or directory (os error 2)\n");
        assert_eq!((output.status.code(), text), (Some(1), expected));
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_block_device_is_held_exclusively() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    fs::write(&image, vec![0; 1 << 20]).unwrap();
    let device = Loop::of(&image);
    let exclusively = || {
        let mut how = OpenOptions::new();
        how.read(true)
            .custom_flags(OFlag::O_EXCL.bits())
            .open(&device.0)
    };
    let holder = Holder::of(&device.0, "excl");
    let error = exclusively().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EBUSY as i32));
    let look = || hold(&device.0, "excl").arg("--once").output().unwrap();
    let busy = String::from_utf8(look().stderr).unwrap();
    assert!(busy.contains("opening it exclusively"), "{busy}");
    holder.ends();
    exclusively().unwrap();
    assert_eq!(look().stdout, b"held\n");
    exclusively().unwrap();
}

/// A loop device, gone when it is dropped.
struct Loop(PathBuf);

impl Loop {
    fn of(image: &Path) -> Loop {
        let mut losetup = Command::new("losetup");
        let output = losetup
            .args(["--show", "--find"])
            .arg(image)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Loop(String::from_utf8(output.stdout).unwrap().trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}
