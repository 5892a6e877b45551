//! Cipher suites (IPMI 2.0, table 22-20): which algorithms prove, sign and encrypt.

/// How the two sides prove that they know the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    None,
    Sha1,
    Sha256,
}

/// How packets are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integrity {
    None,
    Sha1,
    Sha256,
}

/// One cipher suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    id: u8,
    pub(crate) auth: Auth,
    pub(crate) integrity: Integrity,
    /// AES-CBC-128, or nothing.
    pub(crate) encrypted: bool,
}

impl Suite {
    pub(crate) const S3: Suite = Suite::new(3, Auth::Sha1, Integrity::Sha1, true);
    pub(crate) const S17: Suite = Suite::new(17, Auth::Sha256, Integrity::Sha256, true);
    /// All that are known here.
    pub(crate) const ALL: [Suite; 7] = [
        Suite::S17,
        Suite::S3,
        Suite::new(16, Auth::Sha256, Integrity::Sha256, false),
        Suite::new(15, Auth::Sha256, Integrity::None, false),
        Suite::new(2, Auth::Sha1, Integrity::Sha1, false),
        Suite::new(1, Auth::Sha1, Integrity::None, false),
        Suite::new(0, Auth::None, Integrity::None, false),
    ];

    const fn new(id: u8, auth: Auth, integrity: Integrity, encrypted: bool) -> Suite {
        Suite {
            id,
            auth,
            integrity,
            encrypted,
        }
    }

    pub(crate) fn from_id(id: u8) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.id == id)
    }

    #[cfg(feature = "testing")]
    pub(crate) fn from_numbers(numbers: [u8; 3]) -> Option<Suite> {
        Suite::ALL
            .into_iter()
            .find(|suite| suite.numbers() == numbers)
    }

    pub(crate) fn id(self) -> u8 {
        self.id
    }

    /// The numbers of its authentication, integrity and confidentiality algorithm (IPMI 2.0,
    /// tables 13-17 to 13-19).
    pub(crate) fn numbers(self) -> [u8; 3] {
        let auth = match self.auth {
            Auth::None => 0,
            Auth::Sha1 => 1,
            Auth::Sha256 => 3,
        };
        let integrity = match self.integrity {
            Integrity::None => 0,
            Integrity::Sha1 => 1,
            Integrity::Sha256 => 4,
        };
        [auth, integrity, u8::from(self.encrypted)]
    }
}
