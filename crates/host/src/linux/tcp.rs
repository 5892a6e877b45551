//! TCP connections within this host.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as connect_to, getsockopt,
    socket, sockopt,
};

use super::talk::poll_timeout;

/// Connects to `address` from the same address and any port.
pub(super) fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    let from = SocketAddr::new(address.ip(), 0);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
    match connect_to(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut ready, poll_timeout(limit))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let error = getsockopt(&fd, sockopt::SocketError)?;
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
        }
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(fd);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}
