//! Datagrams: the RMCP header, and the session headers of IPMI 1.5 and 2.0 (section 13.6).

use crate::crypto::{BLOCK, Keys, equal};

/// RMCP version 1.0, no acknowledgement wanted, class IPMI.
const RMCP: [u8; 4] = [0x06, 0x00, 0xff, 0x07];
const FORMAT_V15: u8 = 0x00;
const FORMAT_V20: u8 = 0x06;
/// Bits of the payload type.
const ENCRYPTED: u8 = 0x80;
const AUTHENTICATED: u8 = 0x40;
/// An OEM payload has six more bytes in its header; there is no use for it here.
const OEM_EXPLICIT: u8 = 0x02;
/// What follows the padding of a signed packet.
const NEXT_HEADER: u8 = 0x07;

/// Payload types.
pub(crate) const IPMI: u8 = 0x00;
pub(crate) const OPEN_REQUEST: u8 = 0x10;
pub(crate) const OPEN_RESPONSE: u8 = 0x11;
pub(crate) const RAKP1: u8 = 0x12;
pub(crate) const RAKP2: u8 = 0x13;
pub(crate) const RAKP3: u8 = 0x14;
pub(crate) const RAKP4: u8 = 0x15;

/// Larger than any datagram of IPMI over LAN.
pub(crate) const DATAGRAM_MAX: usize = 2048;

/// A datagram taken apart; nothing in it has been believed yet.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    /// IPMI 1.5 outside of any session: the message.
    V15(&'a [u8]),
    /// IPMI 2.0.
    V20(V20<'a>),
}

#[derive(Debug)]
pub(crate) struct V20<'a> {
    pub(crate) payload_type: u8,
    pub(crate) session: u32,
    pub(crate) sequence: u32,
    encrypted: bool,
    authenticated: bool,
    payload: &'a [u8],
    /// From the session header to the end, which is what a signature is about, and the signature.
    rest: &'a [u8],
    /// Bytes after the payload.
    trailer: usize,
}

/// Takes a datagram apart. None: it is not IPMI over LAN, or of a kind not used here.
pub(crate) fn decode(datagram: &[u8]) -> Option<Packet<'_>> {
    let (rmcp, rest) = datagram.split_first_chunk::<4>()?;
    if rmcp[0] != RMCP[0] || rmcp[3] != RMCP[3] {
        return None;
    }
    match *rest.first()? {
        FORMAT_V15 => {
            let (header, payload) = rest.split_first_chunk::<10>()?;
            let payload = payload.get(..usize::from(header[9]))?;
            let sessionless = header[1..9] == [0; 8];
            sessionless.then_some(Packet::V15(payload))
        }
        FORMAT_V20 => {
            let (header, payload) = rest.split_first_chunk::<12>()?;
            let [_, kind, s0, s1, s2, s3, n0, n1, n2, n3, l0, l1] = *header;
            let payload_type = kind & !(ENCRYPTED | AUTHENTICATED);
            if payload_type == OEM_EXPLICIT {
                return None;
            }
            let len = usize::from(u16::from_le_bytes([l0, l1]));
            let (payload, trailer) = payload.split_at_checked(len)?;
            Some(Packet::V20(V20 {
                payload_type,
                session: u32::from_le_bytes([s0, s1, s2, s3]),
                sequence: u32::from_le_bytes([n0, n1, n2, n3]),
                encrypted: kind & ENCRYPTED != 0,
                authenticated: kind & AUTHENTICATED != 0,
                payload,
                rest,
                trailer: trailer.len(),
            }))
        }
        _ => None,
    }
}

impl<'a> V20<'a> {
    /// The payload of a packet outside of any session.
    pub(crate) fn sessionless(&self) -> Option<&'a [u8]> {
        let outside = self.session == 0 && !self.encrypted && !self.authenticated;
        outside.then_some(self.payload)
    }

    /// The payload of a packet inside a session, if it is signed and encrypted as agreed, and the
    /// signature is right. Nothing is decrypted before.
    pub(crate) fn open(&self, keys: &Keys) -> Option<Vec<u8>> {
        if self.encrypted != keys.encrypts() || self.authenticated != keys.signs() {
            return None;
        }
        if keys.signs() {
            // Pad length and next header.
            let signature = keys.signature_len();
            if self.trailer < signature + 2 {
                return None;
            }
            let (signed, signature) = self.rest.split_at(self.rest.len() - signature);
            if !equal(&keys.signature(signed), signature) {
                return None;
            }
        }
        if keys.encrypts() {
            keys.decrypt(self.payload)
        } else {
            Some(self.payload.to_vec())
        }
    }
}

/// A message outside of any session, in the format of IPMI 1.5.
pub(crate) fn v15(message: &[u8]) -> Vec<u8> {
    let mut out = RMCP.to_vec();
    out.push(FORMAT_V15);
    out.extend([0; 8]);
    out.push(message.len() as u8);
    out.extend(message);
    out
}

/// A payload outside of any session.
pub(crate) fn sessionless(payload_type: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = RMCP.to_vec();
    header(&mut out, payload_type, 0, 0, payload);
    out
}

/// A message inside a session, encrypted and signed as agreed.
pub(crate) fn sealed(
    keys: &Keys,
    session: u32,
    sequence: u32,
    message: &[u8],
    iv: [u8; BLOCK],
) -> Vec<u8> {
    let mut kind = IPMI;
    let payload = if keys.encrypts() {
        kind |= ENCRYPTED;
        keys.encrypt(message, iv)
    } else {
        message.to_vec()
    };
    if keys.signs() {
        kind |= AUTHENTICATED;
    }
    let mut signed = Vec::new();
    header(&mut signed, kind, session, sequence, &payload);
    if keys.signs() {
        // What is signed is a multiple of four bytes.
        let pad = (4 - (signed.len() + 2) % 4) % 4;
        signed.extend([0xff; 4].iter().take(pad));
        signed.extend([pad as u8, NEXT_HEADER]);
        let signature = keys.signature(&signed);
        signed.extend(signature.iter());
    }
    let mut out = RMCP.to_vec();
    out.append(&mut signed);
    out
}

fn header(out: &mut Vec<u8>, kind: u8, session: u32, sequence: u32, payload: &[u8]) {
    out.extend([FORMAT_V20, kind]);
    out.extend(session.to_le_bytes());
    out.extend(sequence.to_le_bytes());
    out.extend((payload.len() as u16).to_le_bytes());
    out.extend(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;
    use proptest::prelude::*;

    fn keys(suite: Suite) -> Keys {
        Keys::derive(suite, b"session integrity key")
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..200), tail in any::<bool>()) {
            let datagram = if tail { [&RMCP[..], &[FORMAT_V20], &bytes].concat() } else { bytes };
            if let Some(Packet::V20(packet)) = decode(&datagram) {
                for suite in Suite::ALL {
                    let opened = packet.open(&keys(suite));
                    prop_assert!(opened.is_none() || suite.integrity == crate::suite::Integrity::None);
                }
            }
        }

        #[test]
        fn what_was_sealed_opens_and_nothing_else_does(
            message in prop::collection::vec(any::<u8>(), 0..100),
            sequence in any::<u32>(), flip in any::<(prop::sample::Index, u8)>(),
        ) {
            for suite in [Suite::S3, Suite::S17] {
                let keys = keys(suite);
                let mut datagram = sealed(&keys, 0x01020304, sequence, &message, [7; BLOCK]);
                let Some(Packet::V20(packet)) = decode(&datagram) else { panic!("not decoded") };
                prop_assert_eq!(packet.sequence, sequence);
                prop_assert_eq!(packet.session, 0x01020304);
                prop_assert_eq!(packet.open(&keys), Some(message.clone()));
                prop_assert_eq!(packet.sessionless(), None);
                // Everything after the RMCP header is signed.
                let at = 4 + flip.0.index(datagram.len() - 4);
                datagram[at] ^= flip.1.max(1);
                if let Some(Packet::V20(packet)) = decode(&datagram) {
                    prop_assert_eq!(packet.open(&keys), None, "byte {}", at);
                }
            }
        }
    }

    #[test]
    fn an_unsigned_packet_is_not_taken_for_a_signed_one() {
        let bare = sealed(
            &keys(Suite::from_id(1).unwrap()),
            7,
            1,
            b"message",
            [0; BLOCK],
        );
        let Some(Packet::V20(packet)) = decode(&bare) else {
            panic!("not decoded")
        };
        assert!(packet.open(&keys(Suite::from_id(1).unwrap())).is_some());
        assert!(packet.open(&keys(Suite::S17)).is_none());
        assert!(packet.open(&keys(Suite::from_id(2).unwrap())).is_none());
    }
}
