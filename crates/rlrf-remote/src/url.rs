//! Addresses of endpoints, as users write them.

use std::net::IpAddr;

use reqwest::Url;

use crate::error::{Error, Result};

/// Whether the name of a model is the address of an endpoint, and not a folder.
#[must_use]
pub fn is_url(model: &str) -> bool {
    let model = model.trim_start();
    ["http://", "https://"]
        .iter()
        .any(|scheme| model.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// The base addresses in a comma-separated list, each such as `http://host:8000/v1`.
///
/// # Errors
/// One is no address, holds a password (which would end up in files and errors), or has a query.
pub fn base_urls(list: &str) -> Result<Vec<Url>> {
    list.split(',').map(str::trim).filter(|url| !url.is_empty()).map(base_url).collect()
}

fn base_url(text: &str) -> Result<Url> {
    let refuse =
        |url: &str, message: &str| Err(Error::Url { url: url.to_string(), message: message.to_string() });
    // What cannot be read may hold a password, too.
    let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    let mut url = match Url::parse(text) {
        Ok(url) if is_url(text) && url.has_host() => url,
        _ => return refuse(shown, "is not the address of an endpoint, such as http://127.0.0.1:8000/v1"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse(shown, "holds a user name or password: leave it out, and set RLRF_API_KEY");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse(
            shown,
            "has a query or fragment: give the base address alone, such as http://127.0.0.1:8000/v1",
        );
    }
    if url.path().trim_end_matches('/').ends_with("/chat/completions") {
        return refuse(shown, "is the address of one call: leave /chat/completions out");
    }
    let path = url.path().trim_end_matches('/').to_string();
    url.set_path(&path);
    Ok(url)
}

/// The address of a call, such as `chat/completions`.
pub(crate) fn call(base: &Url, name: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{name}", base.path().trim_end_matches('/')));
    url
}

/// Whether the server is this machine: no proxy leads there.
pub(crate) fn is_local(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_fleets() {
        let urls = base_urls("http://a:8000/v1/, https://b.example/v1").unwrap();
        assert_eq!(
            urls.iter().map(Url::as_str).collect::<Vec<_>>(),
            ["http://a:8000/v1", "https://b.example/v1"]
        );
        assert_eq!(call(&urls[0], "chat/completions").as_str(), "http://a:8000/v1/chat/completions");
        assert_eq!(call(&base_urls("http://a").unwrap()[0], "models").as_str(), "http://a/models");
        assert!(is_url("HTTP://a") && !is_url("models/http") && !is_url("httpé"));
        assert!(is_local(&base_urls("http://[::1]:80/v1").unwrap()[0]) && !is_local(&urls[0]));
    }

    #[test]
    fn bad_addresses_say_so_and_hide_passwords() {
        for (text, expected) in [
            ("http://", "is not the address"),
            ("ftp://a/v1", "is not the address"),
            ("http://me:secret@a/v1", "a/v1: holds a user name or password"),
            ("http://me:secret@/v1", "is not the address"),
            ("https://a/v1?api-version=3", "has a query"),
            ("http://a/v1/chat/completions", "leave /chat/completions out"),
        ] {
            let message = base_urls(text).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("secret"), "{message}");
        }
    }
}
