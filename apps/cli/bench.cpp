#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <iomanip>
#include <sstream>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "evaluate/measures.h"
#include "generate/generation.h"
#include "generate/random.h"
#include "kinds/memory_plan.h"

namespace tessera {
namespace {

// `tessera bench`: how fast a model reads prompts and generates, in the flags, columns and field names of llama.cpp's llama-bench.
struct BenchOptions {
  ModelFlags model;
  std::vector<int64_t> prompts{512}, generated{128}, depths{0}, parallel{1};
  std::vector<int> threads;  // empty: one run with the default
  int64_t repetitions = 5;
  std::string output = "md";
  bool warmup = true;
};

using Clock = std::chrono::steady_clock;
using OrderedJson = nlohmann::ordered_json;

// One row: `prompt` tokens read in one call, or `generated` tokens, greedy ones, by `parallel` sequences of `depth` cached tokens each.
struct Test {
  int64_t prompt, generated, depth, parallel;
  int64_t tokens() const { return (prompt + generated) * parallel; }
  int64_t context() const { return depth + prompt + generated; }
};

std::vector<Test> tests_of(const BenchOptions& options) {
  std::vector<Test> tests;
  for (const int64_t depth : options.depths)
    for (const int64_t parallel : options.parallel) {
      for (const int64_t prompt : options.prompts)
        if (prompt > 0) tests.push_back({prompt, 0, depth, parallel});
      for (const int64_t generated : options.generated)
        if (generated > 0) tests.push_back({0, generated, depth, parallel});
    }
  check(!tests.empty(), "bench: nothing to measure: -p and -n are both 0");
  return tests;
}

class Bench {
 public:
  explicit Bench(Session& session) : session_(session) {}

  // Nanoseconds of the timed part.
  int64_t measure(const Test& test) {
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (int64_t i = 0; i < test.parallel; ++i) sequences.push_back(session_.cache().create());
    if (test.depth > 0) forward(sequences, test.depth);
    const auto start = Clock::now();
    if (test.prompt > 0) forward(sequences, test.prompt);
    if (test.generated > 0) generate(sequences, test.generated);
    return std::chrono::nanoseconds(Clock::now() - start).count();
  }

 private:
  // Of drawn tokens: speed does not depend on what they say.
  void append(Sequence& sequence, int64_t count) {
    for (const auto vocabulary = static_cast<double>(session_.model().spec().vocab_size); count-- > 0;)
      sequence.tokens.push_back(static_cast<TokenId>(uniform(1, 0, drawn_++) * vocabulary));
  }

  void forward(const std::vector<std::unique_ptr<Sequence>>& sequences, int64_t count) {
    SignalWatch::expect_none();
    std::vector<Generator::Request> requests;
    for (const auto& sequence : sequences) {
      append(*sequence, count);
      requests.push_back({sequence.get(), 1});
    }
    session_.generator().forward(requests, [](size_t, int64_t, std::span<const float>) {});
    for (const Generator::Request& request : requests)
      if (request.error) std::rethrow_exception(request.error);
  }

  void generate(const std::vector<std::unique_ptr<Sequence>>& sequences, int64_t count) {
    Sampler greedy({.temperature = 0}, {});
    std::vector<Generation> generations;
    for (const auto& sequence : sequences) {
      append(*sequence, 1);
      generations.push_back({.sequence = *sequence, .sampler = greedy, .max_new_tokens = count});
    }
    tessera::generate(session_.generator(), generations, [](int64_t, int64_t) { SignalWatch::expect_none(); });
  }

  Session& session_;
  uint64_t drawn_ = 0;
};

std::string cpu_info() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  return "unknown";
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  std::ostringstream text;
  text << std::put_time(&utc, "%Y-%m-%dT%H:%M:%SZ");
  return text.str();
}

// Of this program alone: getrusage would count what its parent held when it started us.
int64_t peak_bytes() { return kernel_bytes("/proc/self/status", "VmHWM:").value_or(0); }

double deviation(const Mean& mean) { return mean.standard_error() * std::sqrt(static_cast<double>(mean.count())); }

// llama-bench's fields where they have a meaning here, then ours: weights, activations, n_parallel, load_ns, peak_bytes.
OrderedJson result_json(Session& session, const OrderedJson& about, const Test& test, const std::vector<int64_t>& samples) {
  Mean nanoseconds, speed;
  std::vector<double> speeds;
  for (const int64_t sample : samples) {
    nanoseconds.add(static_cast<double>(sample));
    speeds.push_back(static_cast<double>(test.tokens()) * 1e9 / static_cast<double>(sample));
    speed.add(speeds.back());
  }
  OrderedJson json = about;
  json.update(OrderedJson{{"n_batch", session.generator().chunk()},
                          {"n_threads", session.threads()},
                          {"type_k", name(session.options().cache)},
                          {"type_v", name(session.options().cache)},
                          {"n_prompt", test.prompt},
                          {"n_gen", test.generated},
                          {"n_depth", test.depth},
                          {"test_time", time_now()},
                          {"avg_ns", std::llround(nanoseconds.mean())},
                          {"stddev_ns", std::llround(deviation(nanoseconds))},
                          {"avg_ts", speed.mean()},
                          {"stddev_ts", deviation(speed)},
                          {"samples_ns", samples},
                          {"samples_ts", speeds},
                          {"weights", name(session.options().weights)},
                          {"activations", name(session.options().activations)},
                          {"n_parallel", test.parallel},
                          {"load_ns", std::llround(session.load_seconds() * 1e9)},
                          {"peak_bytes", peak_bytes()}});
  return json;
}

OrderedJson about_json(Session& session, const std::string& model) {
  const ModelDescription& description = session.description();
  return {{"build_commit", TESSERA_VERSION},
          {"cpu_info", cpu_info()},
          {"backends", session.device()->name()},
          {"model_filename", model},
          {"model_type", message(description.architecture, ' ', name(session.options().weights))},
          {"model_size", weight_bytes(device_kind("cpu"), description, session.options().weights)},
          {"model_n_params", parameters(description)}};
}

// Rows as they come, in one of the formats.
class Printer {
 public:
  explicit Printer(std::string format) : format_(std::move(format)) {}

  void print(const OrderedJson& row) {
    if (format_ == "json") write_out((first_ ? "[\n" : ",\n") + row.dump(2));
    if (format_ == "jsonl") write_out(row.dump() + "\n");
    if (format_ == "csv") csv(row);
    if (format_ == "md") markdown(row);
    first_ = false;
  }

  void finish() {
    if (format_ == "json") write_out("\n]\n");
  }

 private:
  void csv(const OrderedJson& row) {
    std::string head, line;
    for (const auto& [key, value] : row.items()) {
      if (value.is_array()) continue;
      head += (head.empty() ? "" : ",") + key;
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      line += line.empty() ? "" : ",";
      line += '"';
      for (const char c : text) line += c == '"' ? std::string("\"\"") : std::string(1, c);
      line += '"';
    }
    write_out((first_ ? head + "\n" : "") + line + "\n");
  }

  void markdown(const OrderedJson& row) {
    if (first_)
      write_out(
          "| model                          |       size |     params | backend | threads |             test |                  t/s |\n"
          "| ------------------------------ | ---------: | ---------: | ------- | ------: | ---------------: | -------------------: |\n");
    const auto of = [&](const char* key) { return row[key].get<double>(); };
    std::ostringstream test, speed, line;
    test << (of("n_prompt") > 0 ? "pp" : "tg") << std::max(row["n_prompt"].get<int64_t>(), row["n_gen"].get<int64_t>());
    if (of("n_depth") > 0) test << " @ d" << row["n_depth"];
    if (of("n_parallel") > 1) test << " x " << row["n_parallel"];
    speed << std::fixed << std::setprecision(2) << of("avg_ts") << " ± " << of("stddev_ts");
    line << "| " << std::left << std::setw(30) << row["model_type"].get<std::string>() << " | " << std::right << std::setw(10)
         << size_text(row["model_size"].get<size_t>()) << " | " << std::fixed << std::setprecision(2) << std::setw(8)
         << of("model_n_params") / 1e6 << " M | " << std::left << std::setw(7) << row["backends"].get<std::string>() << " | " << std::right
         << std::setw(7) << row["n_threads"].get<int>() << " | " << std::setw(16) << test.str() << " | " << std::setw(21) << speed.str()
         << " |\n";  // "±" is two bytes and one column
    write_out(line.str());
  }

  std::string format_;
  bool first_ = true;
};

int bench(const BenchOptions& options) {
  const SignalWatch watch;
  const std::vector<Test> tests = tests_of(options);
  Printer printer(options.output);
  for (const int threads : options.threads.empty() ? std::vector<int>{0} : options.threads) {
    ModelFlags flags = options.model;
    flags.threads = threads;
    int64_t sequences = 1;
    for (const Test& test : tests) {
      flags.context = std::max(flags.context, test.context());
      sequences = std::max(sequences, test.parallel);
    }
    Session session(flags, sequences);
    Bench runs(session);
    const OrderedJson about = about_json(session, flags.model);
    for (const Test& test : tests) {
      if (options.warmup)
        runs.measure({std::min<int64_t>(test.prompt, session.generator().chunk()), std::min<int64_t>(test.generated, 1), 0, test.parallel});
      std::vector<int64_t> samples;
      for (int64_t i = 0; i < options.repetitions; ++i) samples.push_back(runs.measure(test));
      printer.print(result_json(session, about, test, samples));
    }
  }
  printer.finish();
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("bench", "Measure how fast a model reads prompts and generates");
  const auto options = std::make_shared<BenchOptions>();
  command.callback([options, &code] { code = bench(*options); });
  add_model_flags(command, options->model);
  const auto list = [&](const char* flag, auto& values, const char* help, int64_t least) {
    command.add_option(flag, values, help)
        ->delimiter(',')
        ->transform(whole_number(least, int64_t{1} << 30))
        ->capture_default_str()
        ->type_name("N,...");
  };
  command.remove_option(command.get_option("--threads"));
  command.remove_option(command.get_option("--ctx-size"));
  list("-p,--n-prompt", options->prompts, "Tokens of a prompt read in one call; 0 for none", 0);
  list("-n,--n-gen", options->generated, "Tokens generated one by one, greedily; 0 for none", 0);
  list("-d,--n-depth", options->depths, "Tokens in the cache before the clock starts", 0);
  list("--parallel", options->parallel, "Sequences that run side by side; tokens/s are those of all", 1);
  list("-t,--threads", options->threads, "Threads; as many as the process may use if not given", 1);
  command.add_option("-r,--repetitions", options->repetitions, "How often each test is timed")
      ->transform(whole_number(1, 10000))
      ->capture_default_str();
  command.add_option("-o,--output", options->output, "md, csv, json or jsonl; every sample is in the last two")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}))
      ->capture_default_str();
  command.add_flag("!--no-warmup", options->warmup, "Do not run each test once before it is timed");
}

}  // namespace tessera
