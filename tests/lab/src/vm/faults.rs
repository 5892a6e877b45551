//! Faults inside a guest: what no switch outside can do. Each is one call, and another one undoes it.

use anyhow::{Context, Result, ensure};

use super::exec;
use super::guests::{Guests, set_clock};
use super::plan::Network;

/// Slows down one card of a guest, both ways: what leaves it by netem on the card, what arrives by netem on a helper
/// device (ifb) that it is led through.
const LAME: &str = r#"set -e
dev=$1 ifb=ifb-$1
tc qdisc del dev $dev root 2>/dev/null || true
tc qdisc del dev $dev clsact 2>/dev/null || true
ip link del $ifb 2>/dev/null || true
[ "$2 $3" != "0 0" ] || exit 0
modprobe -a sch_netem ifb act_mirred cls_matchall
ip link add $ifb type ifb
ip link set $ifb up
tc qdisc add dev $dev clsact
tc filter add dev $dev ingress matchall action mirred egress redirect dev $ifb
tc qdisc add dev $dev root netem delay ${2}ms loss ${3}%
tc qdisc add dev $ifb root netem delay ${2}ms loss ${3}%
"#;

/// Fills a file system to the last block with one file, or removes that file.
const FILL: &str = r#"set -e
file=$1/.hastor-lab-fill
if [ "$2" = off ]; then rm -f "$file"; sync -f "$1"; exit; fi
# Neither zeros nor fallocate fill a file system that compresses.
block=$(mktemp -p /run)
head -c 1048576 /dev/urandom >"$block"
while cat "$block" 2>/dev/null >>"$file"; do :; done
rm "$block"
sync -f "$1" || true
free=$(df --output=avail -B1 "$1" | tail -n 1)
[ "$free" -lt 1048576 ] || { echo "$1: still $free bytes free"; exit 1; }
"#;

/// Puts a shim in the place of an agent: the next run of one of its actions gets SIGKILL at its Nth system call; all
/// others, and all later ones, run as always. The agent is mounted over, not changed.
const KILL_ACTION: &str = r#"set -e
agent=/usr/lib/ocf/resource.d/$1 action=$2 call=$3
[ -x "$agent" ] || { echo "no agent $agent"; exit 1; }
while mountpoint -q "$agent"; do umount "$agent"; done
home=/var/lib/hastor-lab-kill/$1 # nothing in /run can be executed
rm -rf "$home"
[ "$action" != off ] || exit 0
mkdir -p "$home"
cp "$agent" "$home/real"
cat >"$home/shim" <<END
#!/bin/sh
if [ "\$1" = "$action" ] && mkdir "$home/done" 2>/dev/null; then
	exec /usr/local/lib/hastor-lab/hastor-guest killed --call $call "$home/real" "\$@"
fi
exec "$home/real" "\$@"
END
chmod 755 "$home/shim"
mount --bind "$home/shim" "$agent"
"#;

impl Guests {
    /// Delays and loses what a guest sends and receives on a network: milliseconds each way, and percent. Both zero:
    /// as it should be.
    pub fn lame(&self, name: &str, network: Network, delay: u32, loss: u8) -> Result<()> {
        lame(name, network, delay, loss)
    }

    /// Fills a file system of a guest, or makes room again.
    pub fn fill(&self, name: &str, directory: &str, full: bool) -> Result<()> {
        fill(name, directory, full)
    }

    /// Sets a guest's clock wrong by so many seconds; 0 sets it right.
    pub fn skew(&self, name: &str, seconds: i64) -> Result<()> {
        skew(name, seconds)
    }

    /// Kills all processes of this name in a guest.
    pub fn kill(&self, name: &str, process: &str) -> Result<()> {
        kill(name, process)
    }

    /// Has the next such action of an agent (`hastor/vip`) killed at its Nth system call.
    pub fn kill_action(&self, name: &str, agent: &str, action: &str, call: u32) -> Result<()> {
        kill_action(name, agent, Some((action, call)))
    }
}

/// See [`Guests::lame`].
pub fn lame(name: &str, network: Network, delay: u32, loss: u8) -> Result<()> {
    ensure!(
        network != Network::Management,
        "the lab itself speaks over the management network: to lame a BMC, say `bmc lame`"
    );
    ensure!(loss <= 100, "loss {loss}: expected 0 to 100 percent");
    let (delay, loss) = (delay.to_string(), loss.to_string());
    script(name, LAME, &[network.interface(), &delay, &loss])
}

/// See [`Guests::fill`].
pub fn fill(name: &str, directory: &str, full: bool) -> Result<()> {
    script(name, FILL, &[directory, if full { "on" } else { "off" }])
}

/// See [`Guests::skew`].
pub fn skew(name: &str, seconds: i64) -> Result<()> {
    set_clock(name)?;
    if seconds == 0 {
        return Ok(());
    }
    let offset = format!("{seconds} seconds");
    exec::output(name, &["date", "--set", &offset], b"").map(drop)
}

/// See [`Guests::kill`].
pub fn kill(name: &str, process: &str) -> Result<()> {
    // The kernel cuts names after 15 bytes, and pkill compares with that.
    let comm = process.get(..15).unwrap_or(process);
    exec::output(name, &["pkill", "-KILL", "-x", comm], b"")
        .map(drop)
        .with_context(|| format!("no process {process:?}"))
}

/// The next such action of an agent is killed at a system call; none takes the shim away.
pub fn kill_action(name: &str, agent: &str, action: Option<(&str, u32)>) -> Result<()> {
    let fits = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_".contains(letter))
    };
    ensure!(
        agent.split('/').count() == 2 && agent.split('/').all(fits),
        "agent {agent:?}: expected PROVIDER/NAME, as in hastor/vip"
    );
    let (action, call) = action.unwrap_or(("off", 0));
    ensure!(fits(action), "action {action:?}: expected a word, as start");
    script(name, KILL_ACTION, &[agent, action, &call.to_string()])
}

fn script(name: &str, script: &str, words: &[&str]) -> Result<()> {
    let mut all = vec!["bash", "-c", script, "hastor-lab"];
    all.extend(words);
    exec::output(name, &all, b"").map(drop)
}
