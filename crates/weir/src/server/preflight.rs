//! What a start would find wrong on this machine, told without starting: `weir check`.
//!
//! Ports are not tried: the process that is to be replaced usually holds them.

use std::path::Path;

use weir_config::plan::{LogTarget, Plan};
use weir_core::Address;

use super::default_workers;
use super::limits::Limits;

/// Every problem, in words that name the key and the remedy.
pub(crate) fn problems(plan: &Plan) -> Vec<String> {
    let mut problems = Vec::new();
    let workers = plan.process.workers.map_or_else(default_workers, usize::from);
    problems.extend(Limits::derive(plan, workers).err().map(|error| error.to_string()));
    if let Some(user) = &plan.process.user {
        let checked = weir_net::check_user(user, plan.process.group.as_deref());
        problems.extend(checked.err().map(|error| format!("[process] user: {error}")));
    }
    if let Some(LogTarget::File(path)) = plan.access_log.as_ref().map(|log| &log.target) {
        problems.extend(in_folder(path, "[access_log] path"));
        if path.is_dir() {
            problems.push(format!("[access_log] path: {} is a folder; name a file in it", path.display()));
        }
    }
    for listener in &plan.listeners {
        for bind in &listener.bind {
            if let Address::Unix(path) = &bind.address {
                problems.extend(in_folder(path, &format!("listener `{}`, bind", listener.name)));
            }
        }
    }
    problems
}

/// A file can only be made in a folder that is there.
fn in_folder(path: &Path, key: &str) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (!folder.is_dir()).then(|| format!("{key}: there is no folder {}; create it first", folder.display()))
}
