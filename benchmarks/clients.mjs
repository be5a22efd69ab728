// What npm's clients make of an exported file: node clients.mjs NAME CASE.json, one JSON object on stdout.
// clients.py copies it beside the node_modules that it is to use.
import fs from "node:fs";
import process from "node:process";

const [name, path] = process.argv.slice(2);
const asked = JSON.parse(fs.readFileSync(path, "utf-8"));

function version(of) {
    return JSON.parse(fs.readFileSync(new URL(`./node_modules/${of}/package.json`, import.meta.url), "utf-8")).version;
}

// A session as its manual opens one; the prompt is read back from the wrapper that the session chose.
async function nodeLlamaCpp(systemPrompt) {
    const {getLlama, LlamaChatSession} = await import("node-llama-cpp");
    const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: 1});
    const model = await llama.loadModel({modelPath: asked.fused});
    const context = await model.createContext({contextSize: asked.n_ctx});
    const ids = [], answers = [];
    let wrapper;
    for (const text of asked.inputs) {
        const session = new LlamaChatSession({contextSequence: context.getSequence(), systemPrompt});
        const chatHistory = [...session.getChatHistory(), {type: "user", text}, {type: "model", response: []}];
        wrapper = session.chatWrapper.wrapperName;
        const tokens = session.chatWrapper.generateContextState({chatHistory}).contextText.tokenize(model.tokenizer);
        if (model.tokens.shouldPrependBosToken && tokens[0] !== model.tokens.bos)
            tokens.unshift(model.tokens.bos);
        ids.push(tokens);
        answers.push(await session.prompt(text, {temperature: 0, maxTokens: asked.n_new}));
        session.dispose({disposeSequence: true});
    }
    return {ids, answers, note: `${wrapper}; says ${model.typeDescription}`};
}

async function jinja() {
    const {Template} = await import("@huggingface/jinja");
    const template = new Template(asked.template);
    const texts = asked.inputs.map((content) => template.render({
        messages: [{role: "user", content}], add_generation_prompt: true, bos_token: asked.bos, eos_token: asked.eos
    }));
    return {texts};
}

async function metadata() {
    const {gguf} = await import("@huggingface/gguf");
    const {metadata} = await gguf(asked.fused, {allowLocalFile: true});
    return {metadata: Object.fromEntries(Object.keys(asked.metadata).map((key) => [key, metadata[key] ?? null]))};
}

const clients = {
    "node-llama-cpp": ["node-llama-cpp", () => nodeLlamaCpp(undefined)],
    'node-llama-cpp (system "")': ["node-llama-cpp", () => nodeLlamaCpp("")],
    "@huggingface/jinja": ["@huggingface/jinja", jinja],
    "@huggingface/gguf": ["@huggingface/gguf", metadata]
};
const [of, client] = clients[name];
const said = await client();
process.stdout.write(JSON.stringify({version: version(of), ...said}) + "\n", () => process.exit(0));
