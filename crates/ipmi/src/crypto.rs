//! Proofs, keys, signatures and encryption of a session (IPMI 2.0, sections 13.20 to 13.33).

use aes::Aes128;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::suite::{Auth, Integrity, Suite};

/// AES block, and so the initialization vector.
pub(crate) const BLOCK: usize = 16;

/// A key or a proof; overwritten when it goes.
pub(crate) type Bytes = Zeroizing<Vec<u8>>;

/// Are they equal? Takes the same time wherever they differ.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The keyed hash of the authentication algorithm over the parts, one after another; empty for
/// the algorithm "none".
pub(crate) fn hmac(auth: Auth, key: &[u8], parts: &[&[u8]]) -> Bytes {
    match auth {
        Auth::None => Bytes::default(),
        Auth::Sha1 => mac::<Hmac<Sha1>>(key, parts),
        Auth::Sha256 => mac::<Hmac<Sha256>>(key, parts),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Bytes {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// What both sides know after the first two messages, and what every proof is made of.
#[derive(Clone)]
pub(crate) struct Exchanged {
    pub(crate) auth: Auth,
    pub(crate) console: u32,
    pub(crate) managed: u32,
    pub(crate) console_random: [u8; 16],
    pub(crate) managed_random: [u8; 16],
    pub(crate) guid: [u8; 16],
    /// The whole byte: privilege, and whether the user is looked up by name only.
    pub(crate) role: u8,
    pub(crate) username: Vec<u8>,
}

impl Exchanged {
    /// The BMC's proof in RAKP message 2: it knows the user's password.
    pub(crate) fn rakp2(&self, password: &[u8]) -> Bytes {
        let ids = [self.console.to_le_bytes(), self.managed.to_le_bytes()].concat();
        hmac(
            self.auth,
            password,
            &[
                &ids,
                &self.console_random,
                &self.managed_random,
                &self.guid,
                &self.role(),
                &self.username,
            ],
        )
    }

    /// Our proof in RAKP message 3: we know the user's password.
    pub(crate) fn rakp3(&self, password: &[u8]) -> Bytes {
        let console = self.console.to_le_bytes();
        hmac(
            self.auth,
            password,
            &[&self.managed_random, &console, &self.role(), &self.username],
        )
    }

    /// The session integrity key, of which the others are made. `key` is Kg, or the password if
    /// there is no Kg.
    pub(crate) fn sik(&self, key: &[u8]) -> Bytes {
        hmac(
            self.auth,
            key,
            &[
                &self.console_random,
                &self.managed_random,
                &self.role(),
                &self.username,
            ],
        )
    }

    /// The BMC's proof in RAKP message 4: it has the same session integrity key.
    pub(crate) fn rakp4(&self, sik: &[u8]) -> Bytes {
        let managed = self.managed.to_le_bytes();
        let mut proof = hmac(
            self.auth,
            sik,
            &[&self.console_random, &managed, &self.guid],
        );
        proof.truncate(match self.auth {
            Auth::None => 0,
            Auth::Sha1 => 12,
            Auth::Sha256 => 16,
        });
        proof
    }

    fn role(&self) -> [u8; 2] {
        [self.role, self.username.len() as u8]
    }
}

/// The keys of a session.
#[derive(Clone)]
pub(crate) struct Keys {
    integrity: Integrity,
    encrypted: bool,
    /// K1.
    signing: Bytes,
    /// The first half of K2.
    encryption: Zeroizing<[u8; BLOCK]>,
}

impl Keys {
    pub(crate) fn derive(suite: Suite, sik: &[u8]) -> Keys {
        // Twenty bytes with every algorithm, also where the hash has more.
        let signing = hmac(suite.auth, sik, &[&[1; 20]]);
        let second = hmac(suite.auth, sik, &[&[2; 20]]);
        let mut encryption = Zeroizing::new([0; BLOCK]);
        for (to, from) in encryption.iter_mut().zip(second.iter()) {
            *to = *from;
        }
        Keys {
            integrity: suite.integrity,
            encrypted: suite.encrypted,
            signing,
            encryption,
        }
    }

    pub(crate) fn encrypts(&self) -> bool {
        self.encrypted
    }

    pub(crate) fn signs(&self) -> bool {
        self.integrity != Integrity::None
    }

    /// Bytes of a signature; 0 if there is none.
    pub(crate) fn signature_len(&self) -> usize {
        match self.integrity {
            Integrity::None => 0,
            Integrity::Sha1 => 12,
            Integrity::Sha256 => 16,
        }
    }

    pub(crate) fn signature(&self, bytes: &[u8]) -> Bytes {
        let auth = match self.integrity {
            Integrity::None => Auth::None,
            Integrity::Sha1 => Auth::Sha1,
            Integrity::Sha256 => Auth::Sha256,
        };
        let mut signature = hmac(auth, &self.signing, &[bytes]);
        signature.truncate(self.signature_len());
        signature
    }

    /// Initialization vector and ciphertext.
    pub(crate) fn encrypt(&self, plain: &[u8], iv: [u8; BLOCK]) -> Vec<u8> {
        let pad = (BLOCK - (plain.len() + 1) % BLOCK) % BLOCK;
        let mut text = Zeroizing::new(plain.to_vec());
        text.extend((1..).take(pad));
        text.push(pad as u8);
        let cipher = cbc::Encryptor::<Aes128>::new(&(*self.encryption).into(), &iv.into());
        let mut out = iv.to_vec();
        out.extend(cipher.encrypt_padded_vec::<NoPadding>(&text));
        out
    }

    /// The plain text, or None if this was never made by [`encrypt`](Keys::encrypt).
    ///
    /// What the padding consists of does not matter: the signature has vouched for the packet,
    /// and BMCs pad differently.
    pub(crate) fn decrypt(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (iv, text) = bytes.split_first_chunk::<BLOCK>()?;
        let cipher = cbc::Decryptor::<Aes128>::new(&(*self.encryption).into(), &(*iv).into());
        let mut plain = cipher.decrypt_padded_vec::<NoPadding>(text).ok()?;
        let pad = usize::from(plain.pop()?);
        let len = plain.len().checked_sub(pad)?;
        plain.truncate(len);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_survives_encryption() {
        let keys = Keys::derive(Suite::S17, b"some key");
        for len in 0..70 {
            let plain: Vec<u8> = (0..len).collect();
            let secret = keys.encrypt(&plain, [9; BLOCK]);
            assert_eq!(secret.len() % BLOCK, 0);
            assert!(secret.len() <= plain.len() + 2 * BLOCK);
            assert_eq!(keys.decrypt(&secret).unwrap(), plain);
        }
    }

    /// RFC 2202, test case 2, and RFC 4231, test case 2.
    #[test]
    fn keyed_hashes() {
        let text: &[&[u8]] = &[b"what do ya want ", b"for nothing?"];
        let hex = |auth| -> String {
            let bytes = hmac(auth, b"Jefe", text);
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(hex(Auth::Sha1), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        assert_eq!(
            hex(Auth::Sha256),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(hex(Auth::None), "");
    }
}
