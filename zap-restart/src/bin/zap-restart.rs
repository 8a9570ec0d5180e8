//! zap-restart: brings a pod back from its images. Until everything has been found right it only reads.

use clap::Parser;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use zap_client::error::{reason, Error, Result};
use zap_client::{trusted, Connection, RuntimeDir};
use zap_image::name::ImageName;
use zap_restart::arguments::Restart as Arguments;
use zap_restart::generation::{choose, Candidate};
use zap_restart::image::{self, Image};
use zap_restart::planner::{self, Facts, Planned};
use zap_restart::start::{self, Circumstances, Pod, Start};
use zap_restart::{backing, fault, supervise, unpack, vanished, verify};
use zap_sys::RealPid;
use zap_wire::message::{PodSettings, Restart, StreamId};
use zap_wire::{FromCoordinator, ToCoordinator, PROTOCOL_VERSION};

/// Exit status of zap-restart's own failures.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let _ = message.print();
            return if message.use_stderr() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS };
        }
    };
    match run(&arguments) {
        Ok(child) if arguments.background => {
            let _ = child;
            ExitCode::SUCCESS
        }
        Ok(child) => supervise::wait(child),
        Err(error) => {
            eprintln!("zap-restart: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(arguments: &Arguments) -> Result<RealPid> {
    let mut image = choose_image(arguments)?;
    let ckpt_dir = checkpoint_directory(arguments, &image.path)?;
    image.check_owner()?;
    let remote = image.is_remote();
    let compressed = image.is_compressed();
    if remote && !compressed {
        image.take_in()?;
    }
    let runtime = RuntimeDir::open()?;
    let untouched = !remote && runtime.as_ref().is_some_and(|runtime| trusted::is_untouched(runtime, &image.file));
    if compressed {
        unpack::unpack(&mut image)?;
    } else if arguments.verify || !untouched {
        verify::extents(&image)?;
    }
    let mut planned = plan_without_missing(&mut image)?;
    fault::reach(zap_wire::fault::RESTART_PLANNED);
    let pod = make_pod(arguments, &image, ckpt_dir)?;
    let circumstances = Circumstances { background: arguments.background, mask: supervise::block() };
    if let Start::Runs(child) = start::start(&image, &planned, &pod, circumstances)? {
        return Ok(child);
    }
    // A JVM that starts now removes such files of others.
    planned = plan_without_missing(&mut image)?;
    match start::start(&image, &planned, &pod, circumstances)? {
        Start::Runs(child) => Ok(child),
        Start::FileGone(error) => Err(error),
    }
}

fn plan_without_missing(image: &mut Image) -> Result<Planned> {
    let missing = backing::missing(&image.header);
    vanished::replace(&mut image.header, &missing);
    plan(image)
}

fn choose_image(arguments: &Arguments) -> Result<Image> {
    let paths = image::find(&arguments.images)?;
    let mut images = paths.iter().map(|path| Image::open(path)).collect::<Result<Vec<_>>>()?;
    let candidates: Vec<Candidate<'_>> = images.iter().map(Candidate::of).collect();
    match choose(&candidates)?[..] {
        [only] => Ok(images.swap_remove(only)),
        ref several => {
            let why =
                format!("is one of {} processes of its pod; restarting several is not supported yet", several.len());
            Err(Error::new(images[several[0]].path.display(), why))
        }
    }
}

fn plan(image: &Image) -> Result<Planned> {
    start::check_executable(image)?;
    let facts = Facts {
        extents_start: image.extents_start,
        mappable: image.is_mappable(),
        writable_files: backing::check(&image.header)?,
    };
    planner::plan(&image.header, &facts).map_err(|error| Error::new(image.path.display(), error))
}

/// The highest generation of the pod in `directory`: of a life that went on after the image was taken, perhaps. New
/// images are numbered on from there, so that none replaces another and the newest has the highest number.
fn highest_generation(directory: &Path, pod: u64) -> u32 {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let parsed = names.filter_map(|name| name.to_str().and_then(ImageName::parse));
    parsed.filter(|name| name.pod_id == pod).map(|name| name.generation).max().unwrap_or(0)
}

fn make_pod(arguments: &Arguments, image: &Image, ckpt_dir: String) -> Result<Pod> {
    let recorded = &image.header.pod;
    let request = Restart {
        protocol: PROTOCOL_VERSION,
        pod_id: recorded.id,
        name: arguments.pod.clone(),
        recorded_name: recorded.name.clone(),
        generation: recorded.generation.max(highest_generation(Path::new(&ckpt_dir), recorded.id)),
        settings: PodSettings {
            ckpt_dir,
            interval: recorded.interval,
            keep: recorded.keep,
            compress: recorded.compress.clone(),
            signal: recorded.signal,
        },
        streams: streams(),
        members: recorded.members.iter().map(|member| (member.virtual_pid, member.program.clone())).collect(),
        images: vec![absolute(&image.path)?.to_string_lossy().into_owned()],
    };
    let runtime = RuntimeDir::open_or_create()?;
    match Connection::request(&runtime, &ToCoordinator::Restart(request))? {
        FromCoordinator::InPod { pod_id, table, .. } => Ok(Pod { id: pod_id, table }),
        FromCoordinator::Failed { why, .. } => Err(Error::new("zap-coordinator", why)),
        other => Err(Error::new("zap-coordinator", format_args!("unexpected answer {other:?}"))),
    }
}

/// Device and inode of the standard streams.
fn streams() -> [StreamId; 3] {
    let identity = |fd: std::os::fd::BorrowedFd<'_>| {
        let file = fd.try_clone_to_owned().map(fs::File::from);
        file.and_then(|file| file.metadata()).map_or((0, 0), |metadata| (metadata.dev(), metadata.ino()))
    };
    let (input, output, error) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    [identity(input.as_fd()), identity(output.as_fd()), identity(error.as_fd())]
}

fn checkpoint_directory(arguments: &Arguments, image: &Path) -> Result<String> {
    let directory = match &arguments.ckpt_dir {
        Some(directory) => absolute(directory)?,
        None => absolute(image)?.parent().map(Path::to_path_buf).unwrap_or_default(),
    };
    if !directory.is_dir() {
        return Err(Error::new(directory.display(), "is not a directory"));
    }
    match directory.to_str() {
        Some(text) => Ok(text.to_string()),
        None => Err(Error::new(directory.display(), "is not valid UTF-8")),
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| Error::new(path.display(), reason(&error)))
}
