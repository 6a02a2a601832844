//! Which model a server serves.

use reqwest::{StatusCode, Url};
use serde_json::Value;

use crate::chat::error_detail;
use crate::client::{describe, http_client, receive};
use crate::error::{Error, Result};
use crate::key::ApiKey;
use crate::options::RemoteOptions;
use crate::policy::runtime;
use crate::url::call;

/// The name of the only model that the servers offer.
///
/// Servers that do not answer now are passed over, as long as one does: they may be back when they are needed.
///
/// # Errors
/// No server answers, one wants a key, they offer several models, none, or not all the same one.
pub fn served_model(servers: &[Url], options: &RemoteOptions) -> Result<String> {
    options.validate()?;
    let http = http_client(servers, options)?;
    let runtime = runtime()?;
    let mut found: Option<(String, String)> = None;
    let mut failure = None;
    for server in servers {
        let url = call(server, "models");
        let names = match runtime.block_on(names(&http, &url, options)) {
            Ok(names) => names,
            Err(error @ Error::Key { .. }) => return Err(error),
            Err(error) => {
                failure.get_or_insert(error);
                continue;
            }
        };
        let [name] = &names[..] else {
            let listed = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
            let message = match names.len() {
                0 => "lists no model: name the model with --model-name".to_string(),
                _ => format!("serves several models: choose one with --model-name: {listed}"),
            };
            return Err(Error::Models { url: url.to_string(), message });
        };
        if let Some((known, other)) = found.as_ref().filter(|(known, _)| known != name) {
            let message = format!(
                "serves {name:?}, but {other} serves {known:?}: all servers must serve the same model"
            );
            return Err(Error::Models { url: url.to_string(), message });
        }
        found = Some((name.clone(), url.to_string()));
    }
    // Without a server there is neither a name nor a failure.
    let nothing = || Error::Models { url: "no address".into(), message: "name an endpoint".into() };
    found.map(|(name, _)| name).ok_or_else(|| failure.unwrap_or_else(nothing))
}

async fn names(http: &reqwest::Client, url: &Url, options: &RemoteOptions) -> Result<Vec<String>> {
    let failed = |message: String| {
        let message = ApiKey::hide_in(options.key.as_ref(), &message);
        let message = format!(
            "cannot ask for the model's name ({message}): see that the server is up, or give --model-name"
        );
        Error::Models { url: url.to_string(), message }
    };
    let (status, _, body) = receive(http.get(url.clone())).await.map_err(|error| failed(describe(&error)))?;
    let said = ApiKey::hide_in(options.key.as_ref(), &error_detail(&body));
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let (detail, sent) = (format!(", {said:?}"), options.key.is_some());
        let (url, model) = (url.to_string(), "not known yet".into());
        return Err(Error::Key { url, model, status: status.as_u16(), detail, sent });
    }
    if status != StatusCode::OK {
        return Err(failed(format!("HTTP {}, {said:?}", status.as_u16())));
    }
    let listed: Value =
        serde_json::from_slice(&body).map_err(|_| failed(format!("the reply is not JSON: {said}")))?;
    let models =
        listed["data"].as_array().ok_or_else(|| failed(format!("the reply lists no models: {said}")))?;
    Ok(models.iter().filter_map(|model| model["id"].as_str()).map(str::to_string).collect())
}
