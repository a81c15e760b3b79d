//! | file | what is claimed there |
//! |---|---|
//! | `tokens` | which tokens prove a caller, and for which fault others do not |
//! | `callers` | principals, roles, several issuers |
//! | `key_sets` | which published keys are used |
//! | `memory` | which tokens are remembered, and until when |
//! | `live` | keys at a URL: rotation, unknown keys, an issuer that is away |

mod callers;
mod key_sets;
mod live;
mod memory;
mod tokens;

use super::*;
