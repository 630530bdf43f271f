//! This machine's address as the rest of the world sees it: the one that packets by the default route leave from (etcd:
//! `GetDefaultHost` in `pkg/netutil`, which asks the routing table). IPv4 only: it stands for `0.0.0.0`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
};

/// Somewhere that no route but the default leads to: an address for documentation, with the port for discarding.
const FAR_AWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// Finds the address.
///
/// # Errors
/// There is no default route.
pub fn find() -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Sends nothing: the system only decides which way packets would go, and from which address.
    socket.connect(FAR_AWAY)?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(host) if !host.is_unspecified() => Ok(host),
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_an_address_of_this_machine() {
        // A machine without a network has none.
        if let Ok(host) = find() {
            assert!(UdpSocket::bind((host, 0)).is_ok(), "{host}");
        }
    }
}
