#pragma once

namespace CLI {
class App;
}

namespace tessera {

// Each adds a command with its flags to the program. When they have been read, the command runs and leaves its exit code in `code`.
void add_run(CLI::App& app, int& code);
void add_chat(CLI::App& app, int& code);
void add_tokenize(CLI::App& app, int& code);
void add_perplexity(CLI::App& app, int& code);
void add_inspect(CLI::App& app, int& code);
void add_eval(CLI::App& app, int& code);
void add_batch(CLI::App& app, int& code);
void add_bench(CLI::App& app, int& code);
void add_compare(CLI::App& app, int& code);
void add_plan(CLI::App& app, int& code);
void add_serve(CLI::App& app, int& code);

}  // namespace tessera
