//! What the client talks to: each node answers its own name over TCP. And the client that keeps asking.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::layout::PORT;
use crate::room::now;

/// Answers every connection with the name of the node; one at a time is enough.
pub fn serve(name: &str) -> Result<()> {
    // Both families: the wildcard of IPv6 takes IPv4 too.
    let listener =
        TcpListener::bind(("::", PORT)).with_context(|| format!("listening on port {PORT}"))?;
    for stream in listener.incoming() {
        // A client that goes away in the middle is none of our business.
        let _ = stream.and_then(|stream| answer(stream, name));
    }
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let limit = Some(Duration::from_millis(500));
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    let mut request = [0; 512];
    stream.read(&mut request).map(drop)?;
    let length = name.len() + 1;
    write!(
        stream,
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{name}\n"
    )
}

/// Fetches once over a new connection; the name of the node that answered.
pub fn fetch(address: IpAddr, patience: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, PORT), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.0 200 ") && body.ends_with('\n') => {
            Ok(body.trim_end().to_owned())
        }
        _ => bail!("answer cut short: {text:?}"),
    }
}

/// Fetches 20 times a second and prints a line for each answer: the time in seconds since 1970 and the node's name.
/// A failed attempt prints the time and a dash.
pub fn watch(address: IpAddr) -> Result<()> {
    let every = Duration::from_millis(50);
    loop {
        let began = Instant::now();
        let name = fetch(address, Duration::from_millis(300)).unwrap_or_else(|_| "-".to_owned());
        let mut output = std::io::stdout().lock();
        match writeln!(output, "{:.3} {name}", now()).and_then(|()| output.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
        std::thread::sleep(every.saturating_sub(began.elapsed()));
    }
}
