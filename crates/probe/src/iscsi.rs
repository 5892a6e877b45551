//! The shortest useful conversation with an iSCSI target (RFC 7143): a discovery session in which it names its targets.
//! It logs in to no target, and leaves nothing behind.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use host::Host;

/// Who asks.
const INITIATOR: &str = "iqn.2026-01.org.hastor:monitor";

/// A PDU's header, in bytes.
const HEADER: usize = 48;

/// More text than this in one answer, in bytes, is no answer. A target name is at most 223 bytes.
const LONGEST: usize = 1 << 20;

/// The longest text that is taken in one part, in bytes.
const SEGMENT: usize = 32768;

/// The number of the exchange.
const TASK: u32 = 1;

/// The number of the first command. Immediate ones, as all here are, do not use it up.
const COMMAND: u32 = 1;

/// How often a target may say that there is more to come.
const MOST_PARTS: usize = 1000;

const LOGIN: u8 = 0x43; // immediate
const LOGIN_RESPONSE: u8 = 0x23;
const TEXT: u8 = 0x04;
const TEXT_RESPONSE: u8 = 0x24;
const FINAL: u8 = 0x80;
const CONTINUED: u8 = 0x40;
/// From operational negotiation to full feature phase, at once.
const TO_FULL_FEATURE: u8 = FINAL | 1 << 2 | 3;
/// The tag of the first transfer.
const NO_TAG: [u8; 4] = [0xff; 4];
/// Login status: authentication failure.
const AUTHENTICATION: [u8; 2] = [2, 1];

/// What a portal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These are its targets.
    Targets(Vec<String>),
    /// It works, and tells its targets only to those that know a password.
    Locked,
}

/// Asks the portal at `address`, which is one of this host's, for its targets. Each step takes at most `limit`.
pub fn discover(host: &Host, address: SocketAddr, limit: Duration) -> Result<Option<Answer>> {
    let mut connection = match host.connect(address, limit) {
        Ok(connection) => connection,
        // The address is not here yet, or not any more.
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => return Ok(None),
        Err(error) => return Err(error).context("it does not answer"),
    };
    let keys = format!(
        // LIO sends no text at all to one that does not say how much it takes.
        "InitiatorName={INITIATOR}\0SessionType=Discovery\0HeaderDigest=None\0DataDigest=None\0\
         MaxRecvDataSegmentLength={SEGMENT}\0"
    );
    connection.write_all(&login(keys.as_bytes()))?;
    let (header, _) = receive(&mut connection).context("it does not answer a login")?;
    ensure!(
        header[0] & 0x3f == LOGIN_RESPONSE,
        "it does not speak iSCSI (opcode {:#04x})",
        header[0]
    );
    let status = [header[36], header[37]];
    if status == AUTHENTICATION {
        return Ok(Some(Answer::Locked));
    }
    ensure!(
        status == [0, 0],
        "it refuses a login with status {:02x}{:02x}",
        status[0],
        status[1]
    );
    if header[1] & (FINAL | 3) != FINAL | 3 {
        // It wants to negotiate further; for a discovery that means a password.
        return Ok(Some(Answer::Locked));
    }
    let mut text = Vec::new();
    let mut request = b"SendTargets=All\0".to_vec();
    let mut tag = NO_TAG;
    let mut answered = status_number(&header);
    for _ in 0..MOST_PARTS {
        connection.write_all(&ask(tag, answered, &request))?;
        let (header, data) = receive(&mut connection).context("it does not name its targets")?;
        ensure!(
            header[0] & 0x3f == TEXT_RESPONSE,
            "it does not name its targets (opcode {:#04x})",
            header[0]
        );
        text.extend(data);
        ensure!(text.len() <= LONGEST, "it names targets without end");
        if header[1] & FINAL != 0 && header[1] & CONTINUED == 0 {
            return Ok(Some(Answer::Targets(names(&text))));
        }
        tag.copy_from_slice(&header[20..24]);
        answered = status_number(&header);
        request.clear();
    }
    bail!("it names targets without end")
}

fn names(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let name = |pair: &str| pair.strip_prefix("TargetName=").map(str::to_owned);
    text.split('\0').filter_map(name).collect()
}

fn pdu(mut header: [u8; HEADER], data: &[u8]) -> Vec<u8> {
    header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
    let mut all = header.to_vec();
    all.extend(data);
    all.resize(all.len().next_multiple_of(4), 0);
    all
}

fn login(keys: &[u8]) -> Vec<u8> {
    let mut header = [0; HEADER];
    header[0] = LOGIN;
    header[1] = TO_FULL_FEATURE;
    // A session identifier of the kind "random".
    header[8] = 0x80;
    header[24..28].copy_from_slice(&COMMAND.to_be_bytes());
    pdu(header, keys)
}

/// The number of an answer, which the next request confirms.
fn status_number(header: &[u8; HEADER]) -> u32 {
    u32::from_be_bytes([header[24], header[25], header[26], header[27]])
}

/// All requests of one exchange have the same initiator task tag.
fn ask(tag: [u8; 4], answered: u32, request: &[u8]) -> Vec<u8> {
    let mut header = [0; HEADER];
    header[0] = TEXT | 0x40;
    header[1] = FINAL;
    header[16..20].copy_from_slice(&TASK.to_be_bytes());
    header[20..24].copy_from_slice(&tag);
    header[24..28].copy_from_slice(&COMMAND.to_be_bytes());
    header[28..32].copy_from_slice(&answered.wrapping_add(1).to_be_bytes());
    pdu(header, request)
}

fn receive(connection: &mut impl Read) -> Result<([u8; HEADER], Vec<u8>)> {
    let mut header = [0; HEADER];
    connection.read_exact(&mut header)?;
    let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
    ensure!(length <= LONGEST, "an answer of {length} bytes");
    let extra = usize::from(header[4]) * 4;
    let mut data = vec![0; extra + length.next_multiple_of(4)];
    connection.read_exact(&mut data)?;
    data.truncate(extra + length);
    data.drain(..extra);
    Ok((header, data))
}

#[cfg(test)]
mod tests {
    use host::testing::Script;

    use super::*;

    const PORTAL: &str = "127.0.0.1:3260";

    fn respond(opcode: u8, flags: u8, status: [u8; 2], data: &[u8]) -> Option<Vec<u8>> {
        let mut header = [0; HEADER];
        (header[0], header[1]) = (opcode, flags);
        header[36..38].copy_from_slice(&status);
        Some(pdu(header, data))
    }

    fn asked(
        answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Result<Option<Answer>> {
        let script = Script::empty().service(PORTAL, answer);
        let limit = Duration::from_secs(1);
        discover(&script.host(limit), PORTAL.parse().unwrap(), limit)
    }

    #[test]
    fn targets_are_named_in_as_many_parts_as_it_takes() {
        let answer = asked(|heard| match heard[0] {
            LOGIN => respond(LOGIN_RESPONSE, 0x87, [0, 0], b"TargetPortalGroupTag=1\0"),
            _ if heard.ends_with(b"SendTargets=All\0") => respond(
                TEXT_RESPONSE,
                CONTINUED,
                [0, 0],
                b"TargetName=iqn.2026-01.exam",
            ),
            _ => respond(
                TEXT_RESPONSE,
                FINAL,
                [0, 0],
                b"ple:a\0TargetAddress=192.0.2.1:3260,1\0",
            ),
        });
        let expected = Answer::Targets(vec!["iqn.2026-01.example:a".into()]);
        assert_eq!(answer.unwrap(), Some(expected));
    }

    #[test]
    fn a_portal_that_wants_a_password_works() {
        let answer = asked(|_| respond(LOGIN_RESPONSE, 0x87, AUTHENTICATION, b""));
        assert_eq!(answer.unwrap(), Some(Answer::Locked));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |opcode, status| {
            format!(
                "{:#}",
                asked(move |_| respond(opcode, 0x87, status, b"")).unwrap_err()
            )
        };
        assert_eq!(
            wrong(LOGIN_RESPONSE, [3, 1]),
            "it refuses a login with status 0301"
        );
        assert_eq!(wrong(0x3f, [0, 0]), "it does not speak iSCSI (opcode 0x3f)");
        let nobody = Script::empty();
        let limit = Duration::from_secs(1);
        let error = discover(&nobody.host(limit), PORTAL.parse().unwrap(), limit).unwrap_err();
        assert!(format!("{error:#}").starts_with("it does not answer: "));
    }
}
