//! The property list of a launchd agent (macOS).

use std::path::{Path, PathBuf};

use super::{UnitPathError, named, plain_name, xml};

/// The agent's label: one per home.
pub fn label(home: &Path, is_default: bool) -> String {
    format!("org.ownmesh.{}", plain_name(home, is_default))
}

/// Where a user's own agents live, below the user's directory.
pub fn path(user_dir: &Path, label: &str) -> PathBuf {
    let file = format!("{label}.plist");
    user_dir.join("Library").join("LaunchAgents").join(file)
}

/// The property list for this program and home. launchd starts the node again unless it ended in order; never more often than every five
/// seconds.
pub fn text(label: &str, program: &Path, home: &Path) -> Result<String, UnitPathError> {
    let (program, log) = (xml(named(program)?), home.join("log").join("node.log"));
    let (home, log, label) = (xml(named(home)?), xml(named(&log)?), xml(label));
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n\
         <dict>\n\
         \x20 <key>Label</key><string>{label}</string>\n\
         \x20 <key>ProgramArguments</key>\n\
         \x20 <array>\n\
         \x20   <string>{program}</string>\n\
         \x20   <string>--home</string>\n\
         \x20   <string>{home}</string>\n\
         \x20   <string>up</string>\n\
         \x20   <string>--foreground</string>\n\
         \x20 </array>\n\
         \x20 <key>RunAtLoad</key><true/>\n\
         \x20 <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>\n\
         \x20 <key>ThrottleInterval</key><integer>5</integer>\n\
         \x20 <key>ExitTimeOut</key><integer>60</integer>\n\
         \x20 <key>ProcessType</key><string>Background</string>\n\
         \x20 <key>Umask</key><integer>63</integer>\n\
         \x20 <key>HardResourceLimits</key><dict><key>Core</key><integer>0</integer></dict>\n\
         \x20 <key>StandardErrorPath</key><string>{log}</string>\n\
         </dict>\n\
         </plist>\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_runs_this_program_on_this_home() {
        let home = Path::new("/Users/a/R&D <x>");
        let label = label(home, false);
        assert!(label.starts_with("org.ownmesh.mesh-RDx-"), "{label}");
        assert_eq!(super::label(home, true), "org.ownmesh.mesh");
        assert_eq!(
            path(Path::new("/Users/a"), "org.ownmesh.mesh"),
            Path::new("/Users/a/Library/LaunchAgents/org.ownmesh.mesh.plist")
        );
        let text = text(&label, Path::new("/opt/bin/mesh"), home).unwrap();
        let words = "<string>/opt/bin/mesh</string>\n    <string>--home</string>\n    \
                     <string>/Users/a/R&amp;D &lt;x&gt;</string>\n    <string>up</string>\n    <string>--foreground</string>";
        assert!(text.contains(words), "{text}");
        assert!(text.ends_with("</dict>\n</plist>\n"));
        // As many tags are closed as are opened.
        for tag in ["dict", "array", "key", "string", "integer", "plist"] {
            let opened = text.matches(&format!("<{tag}")).count();
            assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(super::text(&label, Path::new("/a\nb"), home).is_err());
    }
}
