//! The promises, as commands.
