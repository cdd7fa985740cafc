//! The text of what starts the node with the user's session: a systemd user unit, a launchd agent, a task of Windows.
//!
//! Text only, the same on every system: the command line writes it and tells the service manager. The node runs in the foreground there, so
//! that its end is seen; systemd and launchd stop it in order with SIGTERM.

pub mod launchd;
pub mod windows;

use std::path::{Path, PathBuf};

/// A path cannot be written into a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be named in a service file: it is not UTF-8, or holds a control character")]
pub struct UnitPathError(PathBuf);

/// The unit's name: one per home, so that two homes are two services.
///
/// `default_home` has the plain name; any other home is told apart by its last component and a short hash of its path.
pub fn unit_name(home: &Path, is_default: bool) -> String {
    format!("{}.service", plain_name(home, is_default))
}

/// `mesh`, or `mesh-` and what tells another home.
fn plain_name(home: &Path, is_default: bool) -> String {
    if is_default {
        return "mesh".into();
    }
    let tail: String = home
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .take(32)
        .collect();
    format!(
        "mesh-{tail}-{:08x}",
        crate::home::short_hash(home) & 0xffff_ffff
    )
}

/// Where a user's own units live, below the configuration directory.
pub fn unit_path(config_dir: &Path, name: &str) -> PathBuf {
    config_dir.join("systemd").join("user").join(name)
}

/// The unit's text for this program and home.
pub fn unit_text(program: &Path, home: &Path) -> Result<String, UnitPathError> {
    let (program, home) = (quoted(program)?, quoted(home)?);
    Ok(format!(
        "[Unit]\n\
         Description=mesh: your folders in sync between your devices\n\
         Documentation=man:mesh(1)\n\
         StartLimitIntervalSec=300\n\
         StartLimitBurst=10\n\
         \n\
         [Service]\n\
         ExecStart={program} --home {home} up --foreground\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         # The node stops in order on SIGTERM; what it is writing is finished or taken back.\n\
         TimeoutStopSec=60\n\
         # 4: refused for safety (another node holds the home, a newer database): starting again would not help.\n\
         RestartPreventExitStatus=2 4 5 6\n\
         NoNewPrivileges=yes\n\
         UMask=0077\n\
         LimitCORE=0\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

/// Quotes as systemd reads `ExecStart=`: C escapes, `%` doubled, `$` doubled.
fn quoted(path: &Path) -> Result<String, UnitPathError> {
    let text = named(path)?;
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}

/// A path that text can name.
fn named(path: &Path) -> Result<&str, UnitPathError> {
    path.to_str()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or_else(|| UnitPathError(path.to_path_buf()))
}

/// Text between two tags.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_runs_this_program_on_this_home() {
        let text = unit_text(
            Path::new("/opt/my mesh/bin/mesh"),
            Path::new("/home/a/50% $x \"q\""),
        )
        .unwrap();
        assert!(text.contains("ExecStart=\"/opt/my mesh/bin/mesh\" --home \"/home/a/50%% $$x \\\"q\\\"\" up --foreground\n"), "{text}");
        assert!(text.ends_with("WantedBy=default.target\n"));
        assert!(unit_text(Path::new("/bin/mesh"), Path::new("/a\nExecStart=/bin/evil")).is_err());
    }

    #[test]
    fn homes_have_units_of_their_own() {
        assert_eq!(
            unit_name(Path::new("/home/a/.local/share/mesh"), true),
            "mesh.service"
        );
        let (one, two) = (
            unit_name(Path::new("/a/x y"), false),
            unit_name(Path::new("/b/x y"), false),
        );
        assert!(one.starts_with("mesh-xy-") && one != two, "{one} {two}");
    }
}
