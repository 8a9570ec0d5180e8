//! The smallest image that there is: what the members of these tests write.

use zap_image::header::bytes::Bytes;
use zap_image::{encode_head, Backing, Bounds, Entry, Header, Pod, Prelude, Process, Region};

/// Prelude and header of a process with one page of nothing.
pub fn of_generation(generation: u32) -> Vec<u8> {
    let page = 4096;
    let region =
        Region { start: page, end: 2 * page, protection: 3, flags: 0, backing: Backing::Anonymous, extents: vec![] };
    let pod = Pod {
        id: 1,
        name: "member".into(),
        generation,
        time: 0,
        interval: 0,
        keep: 1,
        compress: "none".into(),
        signal: 62,
        members: Vec::new(),
    };
    let process = Process {
        virtual_pid: 1,
        program: "member".into(),
        executable: Bytes::default(),
        entry: Entry { stack_pointer: page, instruction_pointer: page, fs_base: 0, gs_base: 0 },
        bounds: Bounds::default(),
        auxv: Bytes::default(),
        vdso: (0, 0),
        mailbox: page,
        zap_version: String::new(),
        kernel: String::new(),
        stack_limit: 0,
        parent: 1,
        group: 2,
        session: 3,
        foreground: 0,
    };
    let header = Header {
        pod,
        process,
        threads: Vec::new(),
        files: Vec::new(),
        objects: Vec::new(),
        regions: vec![region],
        sections: Vec::new(),
        chunk_sums: Bytes::default(),
        stored_chunks: Bytes::default(),
    };
    encode_head(&header, 0).unwrap()
}

/// The generation of such an image.
pub fn generation(bytes: &[u8]) -> u32 {
    let prelude = Prelude::decode(bytes, bytes.len() as u64).unwrap();
    zap_image::decode_header(&prelude, bytes).unwrap().pod.generation
}
