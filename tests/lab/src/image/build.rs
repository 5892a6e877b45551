//! Building the image: mmdebstrap fills a directory, mke2fs makes a file system of it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::bootstrap::Progress;
use super::{Image, Unfinished, child, host, recipe, remove};
use crate::progress::{say, tell};

/// Ten times what was seen on two cores.
const BOUND: Duration = Duration::from_secs(70 * 60);

/// Builds an image beside its place and moves it there when it is whole; older ones are removed.
pub fn build(cache: &Path, image: &Image) -> Result<()> {
    let begin = Instant::now();
    say("image: none of this recipe yet");
    host::prepare()?;
    host::check_space(cache)?;
    let name = image
        .directory
        .file_name()
        .and_then(|name| name.to_str())
        .context("no name for the image")?;
    let work = Unfinished::create(cache, name)?;
    let log = cache.join("build.log");
    fs::write(&log, "").with_context(|| format!("writing {}", log.display()))?;
    fill(&work.0, &log).with_context(|| format!("the whole output is in {}", log.display()))?;
    fs::rename(&work.0, &image.directory).context("moving the image to its place")?;
    remove(cache, |found| found.starts_with("image-") && found != name)?;
    // They lie over another image, even if it was made by the same recipe.
    remove(cache, |found| found.starts_with("snapshot-"))?;
    tell(format_args!(
        "image: built in {:.0} s, {} MB on disk",
        begin.elapsed().as_secs_f64(),
        on_disk(&image.root())? >> 20
    ));
    Ok(())
}

fn fill(work: &Path, log: &Path) -> Result<()> {
    recipe::write(work)?;
    fs::create_dir(work.join("tmp"))?;
    say("image: packages (some minutes)");
    bootstrap(work, log)?;
    say("image: file system");
    let mut words = vec!["mke2fs".to_owned()];
    words.extend(recipe::file_system_words());
    run(&[], &words, work, log, |_| ())?;
    let boot = work.join("root/boot");
    for (prefix, name) in [("vmlinuz-", "kernel"), ("initrd.img-", "initrd")] {
        fs::copy(only(&boot, prefix)?, work.join(name))
            .with_context(|| format!("copying the {name}"))?;
    }
    for directory in ["root", "tmp", "files"] {
        fs::remove_dir_all(work.join(directory))
            .with_context(|| format!("removing {directory}"))?;
    }
    fs::remove_file(work.join("setup.sh")).context("removing setup.sh")
}

/// Runs mmdebstrap in namespaces of its own: with their first process everything in them ends, mounts included.
fn bootstrap(work: &Path, log: &Path) -> Result<()> {
    let apart = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let mut words = vec!["mmdebstrap".to_owned()];
    words.extend(recipe::bootstrap_words());
    let mut progress = Progress::default();
    run(&apart, &words, work, log, |line| {
        if let Some(line) = line {
            progress.see(line);
        }
        progress.tell();
    })
}

fn run(
    apart: &[&str],
    words: &[String],
    work: &Path,
    log: &Path,
    seen: impl FnMut(Option<&str>),
) -> Result<()> {
    let all = ["nice", "-n", "10"].iter().chain(apart).copied();
    let all: Vec<&str> = all.chain(words.iter().map(String::as_str)).collect();
    let mut command = child::tied(&all);
    // Nothing may end up in a directory that outlives an interrupted build, nor follow the user's language.
    command
        .current_dir(work)
        .env("TMPDIR", work.join("tmp"))
        .env("LC_ALL", "C.UTF-8");
    child::run(command, log, BOUND, seen).with_context(|| words[0].clone())
}

/// The one file in a directory whose name begins like this.
fn only(directory: &Path, prefix: &str) -> Result<std::path::PathBuf> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (_, more) => bail!(
            "expected one {prefix}* in the boot directory of the root, found {}",
            more + 1
        ),
    }
}

/// What a file with holes really takes.
fn on_disk(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() * 512)
}
