//! A scan under the rules that hold, and the news that others hold by now.

use std::cell::RefCell;
use std::sync::Arc;

use ownmesh_crypto::space::SpaceSecret;

use super::{Rules, current};
use crate::disk::base::BaseReader;
use crate::disk::scan::{
    Found, Guard, Look, Problem, ProblemKind, ScanError, ScanReport, Stop, check, scan,
};
use crate::disk::{Disk, RelPath};

/// The rules as a scan asks them: directory by directory, so that what is above a path is not
/// matched anew for each of its entries.
pub fn looker(rules: &Rules) -> impl Fn(&RelPath, bool) -> bool + '_ {
    let last: RefCell<Option<(RelPath, bool)>> = RefCell::new(None);
    move |path, is_dir| {
        if rules.is_empty() {
            return false;
        }
        let Some(dir) = path.parent() else {
            return false;
        };
        let mut last = last.borrow_mut();
        let above = match &*last {
            Some((known, ignored)) if *known == dir => *ignored,
            _ => {
                let ignored = rules.ignores(&dir, true);
                *last = Some((dir, ignored));
                ignored
            }
        };
        above || rules.ignores_in(path, is_dir)
    }
}

/// [`scan`] under the rules of `look`, if the rule files still say the same. If they do not, nothing
/// is compared: [`ScanError::Rules`] gives the new ones, under which everything has to be looked at.
pub fn scan_under(
    disk: &dyn Disk,
    guard: &Guard,
    base: &dyn BaseReader,
    secret: &SpaceSecret,
    look: &Look,
    emit: &mut dyn FnMut(Vec<Found>) -> Result<(), Stop>,
) -> Result<ScanReport, ScanError> {
    let mut troubles = Vec::new();
    if !look.rules.is_alone() {
        check(disk, guard)?;
        let (now, found) = current(disk, &look.rules);
        if now != *look.rules {
            return Err(ScanError::Rules(Arc::new(now)));
        }
        troubles = found;
    }
    let mut report = scan(disk, guard, base, secret, look, &looker(&look.rules), emit)?;
    let names = troubles.into_iter().map(|trouble| Problem {
        path: trouble
            .file
            .path()
            .split('/')
            .fold(RelPath::ROOT, |dir, name| dir.with(name)),
        kind: ProblemKind::Rules,
        reason: trouble.reason,
    });
    report.problems.extend(names);
    Ok(report)
}
