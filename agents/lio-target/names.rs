//! placeholder
use crate::wanted::Portal;
pub fn iqn(text: &str) -> Result<String, String> {
    Ok(text.to_lowercase())
}
pub fn portal(text: &str) -> Result<Portal, String> {
    let (a, p) = match text.parse::<std::net::SocketAddr>() {
        Ok(s) => (s.ip(), s.port()),
        Err(_) => (text.parse().map_err(|_| "is no portal".to_owned())?, 3260),
    };
    Ok(Portal {
        address: a,
        port: p,
        iser: false,
    })
}
