//! The nodes' BMCs: one `ipmi_sim` of OpenIPMI a node, on the management network, whose chassis is the machine room's power
//! switch, behind a relay that can cut and lame the line to it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::control;
use crate::image::child::tied;
use crate::layout::{self, SHARE, STATE};

/// The UDP port of IPMI over LAN.
pub const PORT: u16 = 623;

/// Who may switch power, and with what.
pub const USER: &str = "fence";

/// The password of [`USER`], the same on all BMCs.
pub const PASSWORD: &str = "lab-fence";

/// As the machine room's log has it: who asked.
pub const ASKER: &str = "bmc";

/// The GUID of a node, by its number, as its BMC has it.
pub fn guid(number: u8) -> String {
    format!("68617374-6f72-2d6c-6162-0000000000{number:02x}")
}

/// How the line to a BMC is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Line {
    /// Nothing gets through.
    pub cut: bool,
    /// Every datagram takes this much longer, each way.
    pub delay: Duration,
    /// Of a hundred datagrams, so many are lost.
    pub loss: u8,
}

/// A BMC that runs.
pub struct Bmc {
    simulator: Child,
    relay: Relay,
}

impl Bmc {
    /// Starts the BMC of a head; it answers at [`layout::bmc_address`], which must be an address of this namespace.
    pub fn start(name: &str) -> Result<Bmc> {
        let number = layout::number(name)?;
        let inside = SocketAddr::from(([127, 0, 0, 1], 9000 + u16::from(number)));
        let home = format!("{STATE}/bmc/{name}");
        fs::create_dir_all(format!("{home}/state")).with_context(|| format!("making {home}"))?;
        // The state directory remembers users and addresses, and would override the configuration.
        fs::write(
            format!("{home}/lan.conf"),
            configuration(name, number, inside),
        )?;
        fs::write(format!("{home}/sim.emu"), EMULATION)?;
        let log = fs::File::create(format!("{home}/ipmi_sim.log"))?;
        let mut simulator = tied(&[
            "ipmi_sim", "-n", "-c", "lan.conf", "-f", "sim.emu", "-s", "state",
        ])
        .current_dir(&home)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting ipmi_sim")?;
        let outside: SocketAddr = format!("{}:{PORT}", layout::bmc_address(number)).parse()?;
        let relay = Relay::start(outside, inside).inspect_err(|_| {
            let _ = simulator.kill();
            let _ = simulator.wait();
        })?;
        Ok(Bmc { simulator, relay })
    }

    /// Changes the line to it.
    pub fn set_line(&self, line: Line) {
        *locked(&self.relay.line) = line;
    }

    /// How the line to it is.
    pub fn line(&self) -> Line {
        *locked(&self.relay.line)
    }

    /// An error if the simulator has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.simulator.try_wait()? {
            Some(status) => bail!("ipmi_sim ended: {status}"),
            None => Ok(()),
        }
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        let _ = self.simulator.kill();
        let _ = self.simulator.wait();
    }
}

fn configuration(name: &str, number: u8, address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    let guid = guid(number).replace('-', "");
    format!(
        "name \"{name}\"
set_working_mc 0x20
startlan 1
  addr {ip} {port}
  priv_limit admin
  allowed_auths_callback none md2 md5 straight
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid {guid}
endlan
chassis_control \"{SHARE}/bin/lab chassis {name}\"
user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight
"
    )
}

/// A management controller with an event log, and nothing else.
const EMULATION: &str = "mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
";

/// `lab chassis NAME ...`, which ipmi_sim runs to read and to switch the power of its machine: `get power`,
/// `set power 0`, `set power 1`, `set reset 1`.
pub fn chassis(name: &str, words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["get", ..] => {
            for what in &words[1..] {
                match *what {
                    "power" => {
                        let on = control::ask(&["status", name])? == "on";
                        println!("power:{}", u8::from(on));
                    }
                    "boot" => println!("boot:default"),
                    other => bail!("{other:?} cannot be read"),
                }
            }
            Ok(())
        }
        ["set", "power", "0"] => control::ask(&["off", name, ASKER]).map(drop),
        ["set", "power", "1"] => control::ask(&["on", name, ASKER]).map(drop),
        ["set", "reset", _] => control::ask(&["reset", name, ASKER]).map(drop),
        ["set", "boot" | "identify", ..] => Ok(()),
        // A shutdown by ACPI is a request that the operating system may ignore: nothing in a lab relies on it.
        _ => bail!("{words:?} is not understood"),
    }
}

/// Passes datagrams between clients and one server.
struct Relay {
    line: Arc<Mutex<Line>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn start(outside: SocketAddr, inside: SocketAddr) -> Result<Relay> {
        let socket = UdpSocket::bind(outside).with_context(|| format!("binding UDP {outside}"))?;
        let line = Arc::new(Mutex::new(Line::default()));
        let end = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (Arc::clone(&line), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            if let Err(error) = relay(&socket, inside, &shared, &stop) {
                eprintln!("relay of {outside}: {error:#}");
            }
        });
        Ok(Relay {
            line,
            end,
            thread: Some(thread),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn locked(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A datagram that waits for its time.
struct Waiting {
    due: Instant,
    bytes: Vec<u8>,
    client: SocketAddr,
    to_server: bool,
}

/// A client that has not been heard of for so long is forgotten.
const IDLE: Duration = Duration::from_secs(300);

fn relay(
    outside: &UdpSocket,
    inside: SocketAddr,
    line: &Mutex<Line>,
    end: &AtomicBool,
) -> Result<()> {
    outside.set_nonblocking(true)?;
    let mut clients: HashMap<SocketAddr, (UdpSocket, Instant)> = HashMap::new();
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    // A simple generator is random enough to lose datagrams.
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut buffer = [0; 2048];
    let mut before = Line::default();
    while !end.load(Ordering::Relaxed) {
        wait(outside, &clients, waiting.front().map(|first| first.due))?;
        let now = Instant::now();
        let state = *locked(line);
        let mut arrived: Vec<(Vec<u8>, SocketAddr, bool)> = Vec::new();
        while let Ok((length, client)) = outside.recv_from(&mut buffer) {
            arrived.push((buffer[..length].to_vec(), client, true));
        }
        for (client, (socket, _)) in &clients {
            while let Ok(length) = socket.recv(&mut buffer) {
                arrived.push((buffer[..length].to_vec(), *client, false));
            }
        }
        for (bytes, client, to_server) in arrived {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if !state.cut && random % 100 >= u64::from(state.loss) {
                let due = now + state.delay;
                waiting.push_back(Waiting {
                    due,
                    bytes,
                    client,
                    to_server,
                });
            }
        }
        if state.cut {
            waiting.clear();
        }
        if state != before {
            // What waits as long as the line was before would hold up what comes now.
            for datagram in &mut waiting {
                datagram.due = datagram.due.min(now + state.delay);
            }
            before = state;
        }
        while waiting.front().is_some_and(|first| first.due <= now) {
            let Some(datagram) = waiting.pop_front() else {
                break;
            };
            if !datagram.to_server {
                let _ = outside.send_to(&datagram.bytes, datagram.client);
                continue;
            }
            let (socket, seen) = match clients.entry(datagram.client) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert((to_server(inside)?, now)),
            };
            *seen = now;
            let _ = socket.send(&datagram.bytes);
        }
        clients.retain(|_, (_, seen)| now.duration_since(*seen) < IDLE);
    }
    Ok(())
}

/// A socket that stands for one client.
fn to_server(inside: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("a socket for a client")?;
    socket.connect(inside)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Waits for a datagram, or until the first one that waits is due; at most a tenth of a second.
fn wait(
    outside: &UdpSocket,
    clients: &HashMap<SocketAddr, (UdpSocket, Instant)>,
    due: Option<Instant>,
) -> Result<()> {
    let mut ready = vec![PollFd::new(outside.as_fd(), PollFlags::POLLIN)];
    for (socket, _) in clients.values() {
        ready.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
    }
    let bound = due.map_or(100, |due| {
        let left = due.saturating_duration_since(Instant::now()).as_micros();
        left.div_ceil(1000).min(100) as u16
    });
    poll(&mut ready, PollTimeout::from(bound)).context("poll")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(client: &UdpSocket, text: &[u8]) -> Option<Vec<u8>> {
        client.send(text).unwrap();
        let mut buffer = [0; 100];
        let length = client.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    }

    #[test]
    fn relay_passes_cuts_and_delays() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let inside = server.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 100];
            loop {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                server.send_to(&buffer[..length], from).unwrap();
                if &buffer[..length] == b"end" {
                    break;
                }
            }
        });
        let outside = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let relay = Relay::start(outside, inside).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(outside).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        assert_eq!(ask(&client, b"a").unwrap(), b"a");
        let delay = Duration::from_millis(40);
        *locked(&relay.line) = Line {
            delay,
            ..Line::default()
        };
        let begin = Instant::now();
        assert_eq!(ask(&client, b"b").unwrap(), b"b");
        assert!(begin.elapsed() >= 2 * delay);
        *locked(&relay.line) = Line {
            cut: true,
            ..Line::default()
        };
        client
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        assert_eq!(ask(&client, b"c"), None);
        *locked(&relay.line) = Line::default();
        client
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        assert_eq!(ask(&client, b"end").unwrap(), b"end");
        drop(relay);
        echo.join().unwrap();
    }

    #[test]
    fn configuration_names_the_switch() {
        let text = configuration("n2", 2, "127.0.0.1:9002".parse().unwrap());
        assert!(text.contains("addr 127.0.0.1 9002\n"));
        assert!(text.contains("/bin/lab chassis n2\"\n"));
    }
}
