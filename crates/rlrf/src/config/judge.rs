//! Models that give feedback beside the policy and the run's own feedback model.

use rlrf_remote::is_url;
use serde::{Deserialize, Serialize};

/// A model that gives feedback: a folder, or an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JudgeModel {
    /// The folder, or the address. An address is no part of a run's identity: servers come and go.
    #[serde(skip_serializing_if = "is_address")]
    pub(crate) model: String,
    /// The model's name at the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// Whether a model is named by the address of its endpoint.
pub(super) fn is_address(model: &str) -> bool {
    is_url(model)
}

#[cfg(test)]
mod tests {
    use super::super::FeedbackConfig;

    #[test]
    fn every_key_is_documented_and_no_address_is_kept() {
        let text = "source = \"panel\"\nendpoint = { model = \"http://host/v1\", name = \"served\" }\n\
                    judges = [{ model = \"DIR\" }, { model = \"http://host/v1\", name = \"served\" }]";
        let config: FeedbackConfig = toml::from_str(text).unwrap();
        let kept = toml::to_string(&config).unwrap();
        assert!(!kept.contains("host") && kept.contains("DIR") && kept.contains("served"), "{kept}");
        let page = include_str!("../../../../docs/configuration.md");
        for key in ["feedback.endpoint", "feedback.judges", "name"] {
            assert!(page.contains(&format!("`{key}`")), "docs/configuration.md lacks {key}");
        }
        assert!(toml::from_str::<FeedbackConfig>("judges = [{ modle = \"x\" }]").is_err());
    }
}
