//! What an image holds, as text for people and as JSON for programs.

use crate::backing::hexadecimal;
use crate::image::Image;
use crate::json::Json;
use std::fmt::Write;
use zap_image::header::{flags, Opened};
use zap_image::{Backing, ChunkSums, Region, CHUNK_SIZE};

/// The image as lines of text.
pub fn text(image: &Image) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_text(&mut out, image);
    out
}

/// The image as one JSON object.
pub fn json(image: &Image) -> Json {
    let header = &image.header;
    let (pod, process) = (&header.pod, &header.process);
    Json::Object(vec![
        ("path", Json::text(image.path.to_string_lossy())),
        ("format", Json::number(image.prelude.version)),
        ("zap_version", Json::text(&process.zap_version)),
        ("kernel", Json::text(&process.kernel)),
        ("bytes", Json::number(image.prelude.head_length + image.prelude.stored_length)),
        ("compression", Json::text(image.prelude.compression.name())),
        ("unpacked_bytes", Json::number(image.prelude.head_length + image.prelude.extents_length)),
        (
            "pod",
            Json::Object(vec![
                ("name", Json::text(&pod.name)),
                ("id", Json::text(format!("{:016x}", pod.id))),
                ("generation", Json::number(pod.generation)),
                ("time", Json::number(pod.time)),
                ("interval", Json::number(pod.interval)),
                ("keep", Json::number(pod.keep)),
                ("compress", Json::text(&pod.compress)),
                ("members", Json::List(pod.members.iter().map(member_json).collect())),
            ]),
        ),
        (
            "process",
            Json::Object(vec![
                ("virtual_pid", Json::number(process.virtual_pid)),
                ("program", Json::text(&process.program)),
                ("executable", Json::text(String::from_utf8_lossy(&process.executable.0))),
            ]),
        ),
        (
            "threads",
            Json::List(
                header
                    .threads
                    .iter()
                    .map(|thread| {
                        Json::Object(vec![
                            ("virtual_tid", Json::number(thread.virtual_tid)),
                            ("name", Json::text(&thread.name)),
                        ])
                    })
                    .collect(),
            ),
        ),
        (
            "descriptors",
            header.descriptors().map_or(Json::Null, |all| Json::List(all.iter().map(descriptor_json).collect())),
        ),
        (
            "checksums",
            Json::Object(vec![
                ("chunks", Json::number(chunks(image))),
                ("chunk_bytes", Json::number(CHUNK_SIZE)),
                ("head", Json::text("verified")),
                ("memory", Json::text("not verified")),
            ]),
        ),
        ("regions", Json::List(header.regions.iter().map(|region| region_json(image, region)).collect())),
        (
            "files",
            Json::List(
                header
                    .files
                    .iter()
                    .map(|file| {
                        Json::Object(vec![
                            ("path", Json::text(String::from_utf8_lossy(&file.path.0))),
                            ("size", Json::number(file.size)),
                            ("build_id", Json::text(hexadecimal(&file.build_id.0))),
                            ("checksum", Json::text(hexadecimal(&file.checksum.0))),
                        ])
                    })
                    .collect(),
            ),
        ),
        (
            "sections",
            Json::List(
                header
                    .sections
                    .iter()
                    .map(|section| {
                        Json::Object(vec![
                            ("name", Json::text(&section.name)),
                            ("version", Json::number(section.version)),
                            ("required", Json::Bool(section.required)),
                            ("bytes", Json::number(section.bytes.0.len() as u64)),
                        ])
                    })
                    .collect(),
            ),
        ),
    ])
}

fn write_text(out: &mut String, image: &Image) -> std::fmt::Result {
    let header = &image.header;
    let (pod, process) = (&header.pod, &header.process);
    let head = image.prelude.head_length;
    let (bytes, unpacked) = (head + image.prelude.stored_length, head + image.prelude.extents_length);
    writeln!(out, "{}", image.path.display())?;
    writeln!(out, "  image      format {}, {bytes} bytes, by Zap {}", image.prelude.version, process.zap_version)?;
    if image.is_compressed() {
        writeln!(out, "  compressed {}, {unpacked} bytes unpacked", image.prelude.compression.name())?;
    }
    writeln!(out, "  pod        {} ({:016x}), checkpoint {}, at {}", pod.name, pod.id, pod.generation, pod.time)?;
    writeln!(out, "  settings   interval {} s, keep {}, compress {}", pod.interval, pod.keep, pod.compress)?;
    for member in &pod.members {
        writeln!(out, "  member     {} {}", member.virtual_pid, member.program)?;
    }
    let executable = String::from_utf8_lossy(&process.executable.0);
    writeln!(out, "  process    {} {} ({executable})", process.virtual_pid, process.program)?;
    writeln!(out, "  kernel     {}", process.kernel)?;
    for thread in &header.threads {
        writeln!(out, "  thread     {} {}", thread.virtual_tid, thread.name)?;
    }
    match header.descriptors() {
        Some(descriptors) => descriptors.iter().try_for_each(|descriptor| write_descriptor(out, descriptor))?,
        None => writeln!(out, "  descriptor (this image does not list them)")?,
    }
    for region in &header.regions {
        let Region { start, end, .. } = region;
        let (size, saved) = ((end - start) >> 10, saved_bytes(region) >> 10);
        let (protection, names) = (protection(region), flag_names(region).join(","));
        write!(out, "  region     {start:012x}-{end:012x} {protection} {size:>9} KiB, {saved:>9} saved")?;
        if !names.is_empty() {
            write!(out, " [{names}]")?;
        }
        match (backing_path(image, region), region.backing) {
            (Some((path, offset)), _) => writeln!(out, " {path} at {offset:#x}")?,
            (None, Backing::Shared { object, offset }) => writeln!(out, " object {object} at {offset:#x}")?,
            (None, _) => writeln!(out)?,
        }
    }
    for file in &header.files {
        let path = String::from_utf8_lossy(&file.path.0);
        writeln!(out, "  file       {path} {} bytes, build id {}", file.size, or_none(hexadecimal(&file.build_id.0)))?;
    }
    for section in &header.sections {
        let kind = if section.required { "required" } else { "optional" };
        writeln!(
            out,
            "  section    {} version {}, {} bytes, {kind}",
            section.name,
            section.version,
            section.bytes.0.len()
        )?;
    }
    // The head has been compared with its checksum, or it would not be shown.
    let chunks = chunks(image);
    writeln!(out, "  checksums  of the head: right; of memory: {chunks} of 1 MiB each, not compared (zap-image verify)")
}

fn write_descriptor(out: &mut String, descriptor: &Opened) -> std::fmt::Result {
    let Opened { number, kind, target, .. } = descriptor;
    write!(out, "  descriptor {number} {kind} {}", String::from_utf8_lossy(&target.0))?;
    if let Some(offset) = descriptor.offset {
        write!(out, " at {offset}")?;
    }
    if let Some(stream) = descriptor.stream {
        write!(out, " [standard stream {stream}]")?;
    }
    writeln!(out)
}

fn descriptor_json(descriptor: &Opened) -> Json {
    Json::Object(vec![
        ("number", Json::number(descriptor.number)),
        ("kind", Json::text(&descriptor.kind)),
        ("target", Json::text(String::from_utf8_lossy(&descriptor.target.0))),
        ("offset", descriptor.offset.map_or(Json::Null, Json::number)),
        ("standard_stream", descriptor.stream.map_or(Json::Null, Json::number)),
        ("description", Json::number(descriptor.description)),
    ])
}

/// How many checksums of memory the image has.
fn chunks(image: &Image) -> u64 {
    ChunkSums::from_bytes(image.header.chunk_sums.0.clone()).count() as u64
}

fn member_json(member: &zap_image::Member) -> Json {
    Json::Object(vec![("virtual_pid", Json::number(member.virtual_pid)), ("program", Json::text(&member.program))])
}

fn region_json(image: &Image, region: &Region) -> Json {
    let mut fields = vec![
        ("start", Json::text(format!("{:x}", region.start))),
        ("end", Json::text(format!("{:x}", region.end))),
        ("protection", Json::text(protection(region))),
        ("flags", Json::List(flag_names(region).into_iter().map(Json::text).collect())),
        ("bytes", Json::number(region.end - region.start)),
        ("saved", Json::number(saved_bytes(region))),
    ];
    if let Some((path, offset)) = backing_path(image, region) {
        fields.push(("file", Json::text(path)));
        fields.push(("offset", Json::number(offset)));
    }
    if let Backing::Shared { object, offset } = region.backing {
        fields.push(("object", Json::number(object)));
        fields.push(("offset", Json::number(offset)));
    }
    Json::Object(fields)
}

fn saved_bytes(region: &Region) -> u64 {
    region.extents.iter().map(|extent| extent.length).sum()
}

fn backing_path(image: &Image, region: &Region) -> Option<(String, u64)> {
    match region.backing {
        Backing::Anonymous | Backing::Shared { .. } => None,
        Backing::File { file, offset } => {
            let path = &image.header.files.get(file as usize)?.path.0;
            Some((String::from_utf8_lossy(path).into_owned(), offset))
        }
    }
}

fn protection(region: &Region) -> String {
    let letter = |bit: i32, letter: char| if region.protection & bit as u32 != 0 { letter } else { '-' };
    [letter(libc::PROT_READ, 'r'), letter(libc::PROT_WRITE, 'w'), letter(libc::PROT_EXEC, 'x')].iter().collect()
}

fn flag_names(region: &Region) -> Vec<String> {
    let huge_page = region.huge_page().map(|size| format!("huge-pages-{}k", size >> 10));
    let names = [
        (flags::SHARED, "shared"),
        (flags::GROWS_DOWN, "stack"),
        (flags::WIPE_ON_FORK, "wipe-on-fork"),
        (flags::DONT_FORK, "dont-fork"),
        (flags::DONT_DUMP, "dont-dump"),
        (flags::HUGE, "huge"),
        (flags::NO_HUGE, "no-huge"),
        (flags::NO_RESERVE, "no-reserve"),
    ]
    .into_iter()
    .filter(|(flag, _)| region.flags & flag != 0)
    .map(|(_, name)| name.to_string());
    names.chain(huge_page).collect()
}

fn or_none(text: String) -> String {
    if text.is_empty() {
        "none".into()
    } else {
        text
    }
}
