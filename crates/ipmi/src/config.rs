//! How to reach one BMC, and as whom.

use std::fmt;
use std::sync::atomic::AtomicBool;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind};
use crate::suite::Suite;

/// Longest user name of IPMI 2.0, in bytes.
pub const USERNAME_MAX: usize = 16;
/// Longest password of IPMI 2.0, in bytes.
pub const PASSWORD_MAX: usize = 20;
/// Longest BMC key (Kg) of IPMI 2.0, in bytes.
pub const KG_MAX: usize = 20;

/// Bytes that are shown to nobody and overwritten when they are no longer needed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over these bytes.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(Zeroizing::new(bytes))
    }

    /// Bytes written in hexadecimal, with or without `0x` before them, as a Kg usually is.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is not an even number of hexadecimal digits. The text
    /// itself is not repeated.
    pub fn from_hex(text: &str) -> Result<Secret, Error> {
        let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
        let wrong = || {
            ErrorKind::Config
                .because("a key in hexadecimal: expected an even number of digits 0-9 and a-f")
        };
        if digits.len() % 2 != 0 {
            return Err(wrong());
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
        for pair in digits.chunks_exact(2) {
            let mut byte = 0;
            for digit in pair {
                let value = char::from(*digit).to_digit(16).ok_or_else(wrong)?;
                byte = byte << 4 | value as u8;
            }
            bytes.push(byte);
        }
        Ok(Secret(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret::new(text.into_bytes())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What a session may do. [`Operator`](Privilege::Operator) is enough to switch power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// May do next to nothing.
    Callback = 1,
    /// May look.
    User = 2,
    /// May look and switch power.
    Operator = 3,
    /// May also change the BMC's configuration.
    Administrator = 4,
}

impl Privilege {
    pub(crate) fn level(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Privilege::Callback => "callback",
            Privilege::User => "user",
            Privilege::Operator => "operator",
            Privilege::Administrator => "administrator",
        })
    }
}

/// What to make of "connection refused" and "no route to host": the network says that nothing
/// answers there, which is also what it says while a BMC restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The call fails at once, when all addresses were refused.
    Fail,
    /// Try on until the deadline.
    KeepTrying,
}

/// How to reach one BMC, and as whom. [`Config::new`] gives the usual; every field may be changed.
#[derive(Clone, Debug)]
pub struct Config {
    /// An IPv4 address, an IPv6 address with or without brackets and `%zone`, or a host name, all
    /// addresses of which are tried.
    pub address: String,
    /// UDP port, 623 by default.
    pub port: u16,
    /// At most [`USERNAME_MAX`] bytes; empty for the anonymous user.
    pub username: String,
    /// At most [`PASSWORD_MAX`] bytes.
    pub password: Secret,
    /// The BMC's key, at most [`KG_MAX`] bytes. None, empty or all zero: the BMC has none.
    pub kg: Option<Secret>,
    /// The cipher suite: 3, 17, 1, 2, 15 or 16. None tries 17, and 3 if the BMC does not have 17.
    pub cipher: Option<u8>,
    /// With this, `cipher` may be 0, which proves and protects nothing: whoever reaches the BMC,
    /// or can answer in its place, is believed.
    pub allow_cipher_zero: bool,
    /// The privilege asked for, administrator by default, as every other client does.
    pub privilege: Privilege,
    /// If the BMC does not grant `privilege`, take operator. [`crate::Client::privilege`] tells.
    pub or_operator: bool,
    /// See [`Refused`]; fail by default.
    pub refused: Refused,
    /// Once this is true (a signal handler sets it), calls fail with [`ErrorKind::Interrupted`]
    /// within about 0.2 s, and the session can be closed.
    pub interrupted: Option<&'static AtomicBool>,
}

impl Config {
    /// A BMC at the usual port, with no Kg, any good cipher suite, and administrator or operator
    /// privilege.
    pub fn new(
        address: impl Into<String>,
        username: impl Into<String>,
        password: impl Into<Secret>,
    ) -> Config {
        Config {
            address: address.into(),
            port: 623,
            username: username.into(),
            password: password.into(),
            kg: None,
            cipher: None,
            allow_cipher_zero: false,
            privilege: Privilege::Administrator,
            or_operator: true,
            refused: Refused::Fail,
            interrupted: None,
        }
    }

    /// Is every field within its limits? Touches no network; [`crate::Client::open`] does it too.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the field, its limit, and its value unless it is secret.
    pub fn check(&self) -> Result<(), Error> {
        if self.address.trim().is_empty() {
            return Err(ErrorKind::Config.because("address: empty, expected that of a BMC"));
        }
        limit("username", self.username.len(), USERNAME_MAX)?;
        limit("password", self.password.as_bytes().len(), PASSWORD_MAX)?;
        limit("kg", self.kg().len(), KG_MAX)?;
        self.suites().map(drop)
    }

    /// How the BMC is called in messages.
    pub(crate) fn place(&self) -> String {
        format!("{} port {}", self.address, self.port)
    }

    /// The key that sessions are derived from beside the password; empty if there is none.
    pub(crate) fn kg(&self) -> &[u8] {
        let kg = self.kg.as_ref().map_or(&[][..], Secret::as_bytes);
        // Twenty zero bytes are how a BMC stores "none".
        if kg.iter().all(|byte| *byte == 0) && kg.len() <= KG_MAX {
            &[]
        } else {
            kg
        }
    }

    /// The suites to try, best first.
    pub(crate) fn suites(&self) -> Result<Vec<Suite>, Error> {
        match self.cipher {
            None => Ok(vec![Suite::S17, Suite::S3]),
            Some(0) if !self.allow_cipher_zero => Err(ErrorKind::Config.because(
                "cipher 0 proves and protects nothing, and is used only if explicitly allowed",
            )),
            Some(id) => Suite::from_id(id).map(|suite| vec![suite]).ok_or_else(|| {
                ErrorKind::Config.because(format!(
                    "cipher {id} is not supported: expected 17, 3, 16, 15, 2 or 1"
                ))
            }),
        }
    }
}

fn limit(field: &str, len: usize, max: usize) -> Result<(), Error> {
    if len > max {
        return Err(ErrorKind::Config.because(format!(
            "{field} has {len} bytes: IPMI 2.0 allows at most {max}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::new("192.0.2.1", "admin", "secret");
        config.check().unwrap();
        change(&mut config);
        let error = config.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn limits_are_named() {
        assert_eq!(
            refusal(|config| config.password = "123456789012345678901".into()),
            "password has 21 bytes: IPMI 2.0 allows at most 20"
        );
        assert_eq!(
            refusal(|config| config.username = "12345678901234567".into()),
            "username has 17 bytes: IPMI 2.0 allows at most 16"
        );
        assert_eq!(
            refusal(|config| config.kg = Some(Secret::new(vec![7; 21]))),
            "kg has 21 bytes: IPMI 2.0 allows at most 20"
        );
        assert_eq!(
            refusal(|config| config.kg = Some(Secret::new(vec![0; 21]))),
            "kg has 21 bytes: IPMI 2.0 allows at most 20"
        );
        assert_eq!(
            refusal(|config| config.address = " ".into()),
            "address: empty, expected that of a BMC"
        );
    }

    #[test]
    fn suite_zero_needs_two_words() {
        assert_eq!(
            refusal(|config| config.cipher = Some(0)),
            "cipher 0 proves and protects nothing, and is used only if explicitly allowed"
        );
        assert_eq!(
            refusal(|config| config.cipher = Some(8)),
            "cipher 8 is not supported: expected 17, 3, 16, 15, 2 or 1"
        );
        let mut config = Config::new("192.0.2.1", "admin", "secret");
        config.allow_cipher_zero = true;
        assert!(config.suites().unwrap().iter().all(|suite| suite.id() != 0));
        config.cipher = Some(0);
        config.check().unwrap();
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = Config::new("192.0.2.1", "admin", "hunter2");
        config.kg = Some(Secret::from_hex("0x68756E74657232").unwrap());
        assert_eq!(config.kg(), b"hunter2");
        let shown = format!("{config:?} {config:#?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("104"),
            "{shown}"
        );
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(
            Secret::from_hex("00ffA5").unwrap().as_bytes(),
            [0, 0xff, 0xa5]
        );
        for wrong in ["0x1", "zz", "1g", "0x0x", "\u{e9}"] {
            let error = Secret::from_hex(wrong).unwrap_err();
            assert!(!error.to_string().contains(wrong), "{error}");
        }
        assert!(Secret::from_hex("").unwrap().as_bytes().is_empty());
    }

    #[test]
    fn a_key_of_zeros_is_none() {
        let mut config = Config::new("192.0.2.1", "admin", "secret");
        config.kg = Some(Secret::new(vec![0; 20]));
        assert!(config.kg().is_empty());
    }
}
