//! A model that is borrowed from someone, or kept alive together with others.

use std::ops::Deref;
use std::sync::Arc;

use rlrf_model::Model;

/// Cheap to clone: the weights are not.
#[derive(Debug, Clone)]
pub(crate) enum HeldModel<'m> {
    Borrowed(&'m Model),
    Shared(Arc<Model>),
}

impl Deref for HeldModel<'_> {
    type Target = Model;

    fn deref(&self) -> &Model {
        match self {
            Self::Borrowed(model) => model,
            Self::Shared(model) => model,
        }
    }
}
