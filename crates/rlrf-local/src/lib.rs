//! The method's traits on the local engine and trainer.
