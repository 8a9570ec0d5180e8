//! zap-image: what an image holds, and whether it is whole. Only ever reads.

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;
use zap_client::usage;
use zap_restart::arguments::{Action, Image as Arguments};
use zap_restart::image::Image;
use zap_restart::json::Json;
use zap_restart::{show, verify};

/// Exit status of a command line that is not understood.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) if usage::print("zap-image", &said) => return ExitCode::from(USAGE),
        Err(_) => return ExitCode::SUCCESS,
    };
    let (images, verifying) = match arguments.action {
        Action::Show(images) => (images, false),
        Action::Verify(images) => (images, true),
    };
    let mut status = ExitCode::SUCCESS;
    let mut list = Vec::new();
    for path in &images.images {
        let opened = Image::open(path);
        let result = opened.and_then(|image| if verifying { verify::whole(&image).map(|()| image) } else { Ok(image) });
        let outcome = match result {
            Ok(_) if images.json && verifying => {
                list.push(Json::Object(vec![
                    ("path", Json::text(path.to_string_lossy())),
                    ("whole", Json::Bool(true)),
                ]));
                continue;
            }
            Ok(image) if images.json => {
                list.push(show::json(&image));
                continue;
            }
            Ok(image) if verifying => print(&format!("{}: whole\n", image.path.display())),
            Ok(image) => print(&show::text(&image)),
            Err(error) => {
                eprintln!("zap-image: {error}");
                status = ExitCode::FAILURE;
                if images.json {
                    list.push(Json::Object(vec![
                        ("path", Json::text(path.to_string_lossy())),
                        ("whole", Json::Bool(false)),
                        ("why", Json::text(error.why)),
                    ]));
                }
                continue;
            }
        };
        if !outcome {
            return ExitCode::FAILURE;
        }
    }
    if images.json && !print(&format!("{}\n", Json::Object(vec![("images", Json::List(list))]))) {
        return ExitCode::FAILURE;
    }
    status
}

/// Writes to standard output; says whether that worked.
fn print(text: &str) -> bool {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => false,
        Err(error) => {
            eprintln!("zap-image: standard output: {}", zap_client::error::reason(&error));
            false
        }
    }
}
