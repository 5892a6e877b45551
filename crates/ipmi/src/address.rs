//! From the address in the configuration to socket addresses.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

use crate::client::now;
use crate::error::{Error, ErrorKind};

/// All addresses of `address`, each once, in the resolver's order.
///
/// # Errors
/// [`ErrorKind::Address`] if it has none, or the resolver does not answer before the deadline.
pub(crate) fn resolve(
    address: &str,
    port: u16,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, Error> {
    let host = without_brackets(address.trim());
    if let Ok(literal) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(literal, port)]);
    }
    let mut found = ask_resolver(host.to_owned(), port, deadline)?;
    let mut seen = Vec::new();
    found.retain(|target| {
        let new = !seen.contains(target);
        seen.push(*target);
        new
    });
    if found.is_empty() {
        return Err(ErrorKind::Address.because(format!("{host}: the name has no address")));
    }
    Ok(found)
}

fn without_brackets(address: &str) -> &str {
    let inner = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(address)
}

/// Names, and IPv6 addresses with a zone, which only the C library understands.
///
/// Nothing bounds the C library, so it is asked from a thread of its own, which is left behind if
/// it is not back by the deadline.
fn ask_resolver(host: String, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, Error> {
    let (sender, receiver) = channel();
    let name = host.clone();
    std::thread::Builder::new()
        .name("resolver".to_owned())
        .spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs();
            // Nobody listens any more after the deadline.
            let _ = sender.send(found.map(Iterator::collect));
        })
        .map_err(|error| ErrorKind::System.because(format!("starting a thread: {error}")))?;
    match receiver.recv_timeout(deadline.saturating_duration_since(now())) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            Err(ErrorKind::Address.because(format!("{host}: cannot resolve the name: {error}")))
        }
        Err(RecvTimeoutError::Timeout) => Err(ErrorKind::Address.because(format!(
            "{host}: the name was not resolved before the deadline"
        ))),
        Err(RecvTimeoutError::Disconnected) => {
            Err(ErrorKind::System.because(format!("{host}: the resolver stopped")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn resolved(address: &str) -> Result<Vec<SocketAddr>, Error> {
        resolve(address, 623, now() + Duration::from_secs(10))
    }

    #[test]
    fn literals() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1:623"),
            (" 192.0.2.1 ", "192.0.2.1:623"),
            ("2001:db8::1", "[2001:db8::1]:623"),
            ("[2001:db8::1]", "[2001:db8::1]:623"),
            ("fe80::1%1", "[fe80::1%1]:623"),
            ("[fe80::1%lo]", "[fe80::1%1]:623"),
        ] {
            let found = resolved(text).unwrap();
            let found: Vec<String> = found.iter().map(SocketAddr::to_string).collect();
            assert_eq!(found, [expected], "{text}");
        }
    }

    #[test]
    fn names() {
        let found = resolved("localhost").unwrap();
        assert!(!found.is_empty() && found.iter().all(|target| target.ip().is_loopback()));
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in ["fe80::1%no-such-zone", "300.1.1.1.invalid", "[::1"] {
            let error = resolved(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Address, "{error}");
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }
}
