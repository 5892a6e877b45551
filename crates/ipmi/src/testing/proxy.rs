//! A network between a client and a BMC that is as bad as told.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wire::DATAGRAM_MAX;

/// How bad it is. Chances are per datagram, in thousandths, and independent of each other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chaos {
    /// It is lost.
    pub drop: u16,
    /// It comes twice.
    pub duplicate: u16,
    /// One to three of its bytes are changed.
    pub corrupt: u16,
    /// It is held back for up to `delay`, so that later ones overtake it.
    pub reorder: u16,
    /// The longest time it is held back for.
    pub delay: Duration,
}

/// A port that leads to another address.
pub struct Proxy {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Opens a port on 127.0.0.1 that leads to `target`. The same seed makes the same decisions,
    /// in the order in which datagrams come.
    ///
    /// # Errors
    /// If there is no port or no thread to be had.
    pub fn start(target: SocketAddr, chaos: Chaos, seed: u64) -> io::Result<Proxy> {
        let front = Arc::new(UdpSocket::bind(("127.0.0.1", 0))?);
        front.set_read_timeout(Some(POLL))?;
        let address = front.local_addr()?;
        let over = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = channel();
        let network = Network {
            front,
            target,
            chaos,
            dice: Arc::new(Mutex::new(Dice(seed))),
            courier: sender,
            over: Arc::clone(&over),
        };
        let courier = std::thread::Builder::new()
            .name("courier".to_owned())
            .spawn(move || deliver(&receiver))?;
        let front = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || network.forward())?;
        Ok(Proxy {
            address,
            over,
            threads: vec![front, courier],
        })
    }

    /// The address to be used in place of the target's.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there has been reported.
            let _ = thread.join();
        }
    }
}

/// How often the threads look whether it is over.
const POLL: Duration = Duration::from_millis(50);

/// A datagram under way.
struct Parcel {
    due: Instant,
    from: Arc<UdpSocket>,
    to: SocketAddr,
    bytes: Vec<u8>,
}

struct Network {
    front: Arc<UdpSocket>,
    target: SocketAddr,
    chaos: Chaos,
    dice: Arc<Mutex<Dice>>,
    courier: Sender<Parcel>,
    over: Arc<AtomicBool>,
}

impl Network {
    /// From the clients to the target.
    fn forward(self) {
        let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut threads = Vec::new();
        let mut buffer = [0; DATAGRAM_MAX];
        while !self.over.load(Ordering::Relaxed) {
            let Ok((len, client)) = self.front.recv_from(&mut buffer) else {
                continue;
            };
            let back = match backs.get(&client) {
                Some(back) => Arc::clone(back),
                None => {
                    let Ok((back, thread)) = self.way_back(client) else {
                        continue;
                    };
                    threads.push(thread);
                    backs.insert(client, Arc::clone(&back));
                    back
                }
            };
            let datagram = buffer.get(..len).unwrap_or_default();
            mangle(
                &self.dice,
                self.chaos,
                &self.courier,
                &back,
                self.target,
                datagram,
            );
        }
        for thread in threads {
            // A panic in there has been reported.
            let _ = thread.join();
        }
    }

    /// A socket towards the target for this client, and a thread that brings back what comes.
    fn way_back(&self, client: SocketAddr) -> io::Result<(Arc<UdpSocket>, JoinHandle<()>)> {
        let back = Arc::new(UdpSocket::bind((self.front.local_addr()?.ip(), 0))?);
        back.set_read_timeout(Some(POLL))?;
        let thread = std::thread::Builder::new()
            .name("proxy back".to_owned())
            .spawn({
                let (back, front) = (Arc::clone(&back), Arc::clone(&self.front));
                let (dice, chaos) = (Arc::clone(&self.dice), self.chaos);
                let (courier, over) = (self.courier.clone(), Arc::clone(&self.over));
                move || {
                    let mut buffer = [0; DATAGRAM_MAX];
                    while !over.load(Ordering::Relaxed) {
                        if let Ok((len, _)) = back.recv_from(&mut buffer) {
                            let datagram = buffer.get(..len).unwrap_or_default();
                            mangle(&dice, chaos, &courier, &front, client, datagram);
                        }
                    }
                }
            })?;
        Ok((back, thread))
    }
}

/// Decides what becomes of a datagram.
fn mangle(
    dice: &Mutex<Dice>,
    chaos: Chaos,
    courier: &Sender<Parcel>,
    from: &Arc<UdpSocket>,
    to: SocketAddr,
    datagram: &[u8],
) {
    let mut dice = dice.lock().unwrap_or_else(PoisonError::into_inner);
    if dice.chance(chaos.drop) {
        return;
    }
    let copies = if dice.chance(chaos.duplicate) { 2 } else { 1 };
    for _ in 0..copies {
        let mut bytes = datagram.to_vec();
        if dice.chance(chaos.corrupt) {
            for _ in 0..=dice.below(3) {
                let at = dice.below(bytes.len() as u64) as usize;
                let change = dice.below(255) as u8 + 1;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= change;
                }
            }
        }
        let mut due = Instant::now();
        if dice.chance(chaos.reorder) {
            due += Duration::from_micros(dice.below(chaos.delay.as_micros() as u64 + 1));
        }
        let from = Arc::clone(from);
        // It has stopped only if everything is over.
        let _ = courier.send(Parcel {
            due,
            from,
            to,
            bytes,
        });
    }
}

/// Delivers each when it is due, until nobody sends any more.
fn deliver(parcels: &Receiver<Parcel>) {
    let mut waiting: BTreeMap<(Instant, u64), Parcel> = BTreeMap::new();
    for count in 0.. {
        let now = Instant::now();
        while let Some(entry) = waiting.first_entry().filter(|entry| entry.key().0 <= now) {
            let parcel = entry.remove();
            // As with any network, nobody is told.
            let _ = parcel.from.send_to(&parcel.bytes, parcel.to);
        }
        let next = waiting
            .keys()
            .next()
            .map(|(due, _)| due.saturating_duration_since(now));
        match parcels.recv_timeout(next.unwrap_or(POLL)) {
            Ok(parcel) => {
                waiting.insert((parcel.due, count), parcel);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// SplitMix64: the same every time, and random enough.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 for 0.
    fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    fn chance(&mut self, thousandths: u16) -> bool {
        self.below(1000) < u64::from(thousandths)
    }
}
