// Calls the edge as an application does that was written for Connect, and says how each call ended.
//
// Arguments: the descriptor set of the contract, and the edge's address. Standard input: a JSON list of
// {transport, service, method, request, token}. Standard output: a JSON list of the answers.
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary, toJson } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";

const [descriptors, baseUrl] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const errorDetails = ["ErrorInfo", "BadRequest", "RetryInfo"].map((name) => registry.getMessage(`google.rpc.${name}`));

const transports = {
  json: createConnectTransport({ baseUrl }),
  binary: createConnectTransport({ baseUrl, useBinaryFormat: true }),
};

async function call({ transport, service, method, request, token, messages }) {
  const desc = registry.getService(service);
  const client = createClient(desc, transports[transport]);
  const schema = desc.method[method].output;
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const received = [];
  try {
    if (desc.method[method].methodKind === "unary") {
      return { ok: toJson(schema, await client[method](request, { headers }), { registry }) };
    }
    for await (const message of client[method](request, { headers })) {
      received.push(toJson(schema, message, { registry }));
      if (received.length === messages) break;
    }
    return { ok: received };
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    const details = errorDetails.flatMap((detail) => error.findDetails(detail).map((found) => toJson(detail, found)));
    return { code: Code[error.code], message: error.rawMessage, details: Object.assign({}, ...details), received };
  }
}

const answers = [];
for (const one of JSON.parse(readFileSync(0, "utf8"))) answers.push(await call(one));
process.stdout.write(JSON.stringify(answers));
process.exit(0);
