#include "cli/help.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/arguments.h"

namespace tessera {
namespace {

constexpr size_t kWidth = 80;

constexpr std::array kExamples{
    std::pair{"tessera",
              "  tessera run -m google/gemma-3-1b-it -p \"The three primary colours are\" -n 50\n"
              "  tessera chat -m google/gemma-3-1b-it\n"
              "  tessera inspect -m path/to/a/checkpoint\n"},
    std::pair{"run",
              "  tessera run -m google/gemma-3-1b-it -p \"The three primary colours are\" -n 50\n"
              "  tessera run -m google/gemma-3-1b-it --chat -p \"Name three colours.\" --temp 0.7\n"
              "  tessera run -m path/to/a/checkpoint -f story.txt -n 200 --weights bfloat8_b\n"
              "  tessera run -m google/gemma-3-1b-it --chat -f edit_this.txt --prompt-lookup 16\n"
              "  tessera run -m google/gemma-3-1b-it --chat -p \"A person.\" --json-schema person.json\n"
              "  tessera run -m google/gemma-3-4b-it --chat -f ask.txt --draft google/gemma-3-270m-it\n"},
    std::pair{"chat",
              "  tessera chat -m google/gemma-3-1b-it\n"
              "  tessera chat -m path/to/a/checkpoint --sys \"Answer in one line.\" --temp 0.8 --seed 1\n"},
    std::pair{"batch", "  tessera batch -m google/gemma-3-1b-it -i requests.jsonl -o answers.jsonl\n"},
    std::pair{"serve",
              "  tessera serve -m google/gemma-3-1b-it --served-model-name gemma\n"
              "  tessera serve -m google/gemma-3-1b-it --host 0.0.0.0 --api-key-file keys.txt\n"},
    std::pair{"perplexity",
              "  tessera perplexity -m google/gemma-3-270m -f prompts/perplexity.txt\n"
              "  tessera perplexity -m google/gemma-3-270m -f text.txt --window 512 --json -\n"},
    std::pair{"inspect",
              "  tessera inspect -m google/gemma-3-270m\n"
              "  tessera inspect -m path/to/a/checkpoint --tensors --json facts.json\n"},
    std::pair{"tokenize",
              "  tessera tokenize -m google/gemma-3-1b-it -p \"The three primary colours are\"\n"
              "  tessera tokenize -m google/gemma-3-1b-it --chat -f ask.txt --ids > ids.txt\n"
              "  tessera tokenize -m google/gemma-3-1b-it --ids-file ids.txt --json -\n"},
    std::pair{"eval",
              "  tessera eval -m google/gemma-3-270m -p \"Once upon a time\" --save-reference ref.json\n"
              "  tessera eval -m google/gemma-3-270m --weights bfloat8_b --reference ref.json\n"
              "  tessera eval -m google/gemma-3-270m -f text.txt --weights bfloat8_b --against-weights bfloat16\n"},
    std::pair{"bench", "  tessera bench -m google/gemma-3-270m -p 512 -n 128 -r 5\n"},
    std::pair{"plan",
              "  tessera plan -m google/gemma-3-4b-it --weights bfloat8_b -c 8192 --sequences 8\n"
              "  tessera plan -m path/to/a/checkpoint --device cpu --memory 16\n"},
    std::pair{"compare", "  tessera compare -m google/gemma-3-270m -p \"Once upon a time\" --weights-b bfloat8_b\n"},
};

constexpr std::string_view kEnvironment =
    "  HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HOME\n"
    "      Where checkpoints that are named by an id are looked for, in this order:\n"
    "      $HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub,\n"
    "      ~/.cache/huggingface/hub. Nothing is ever downloaded.\n"
    "  SOURCE_DATE_EPOCH\n"
    "      The time of chat templates that tell the date, in seconds since 1970; now if\n"
    "      not set.\n"
    "  TESSERA_CPU_ISA\n"
    "      The kernels to use: plain, avx2 or avx512; the best of this machine if not\n"
    "      set.\n";

constexpr std::string_view kExitCodes =
    "  0    done; also when the reader of the output closes it\n"
    "  1    anything not below\n"
    "  2    wrong flags or a wrong input\n"
    "  3    a model or a file is bad or is not there\n"
    "  4    not enough memory or room on the disk\n"
    "  5    the card does not answer any more\n"
    "  130  ended by SIGINT (Ctrl-C)\n"
    "  143  ended by SIGTERM\n";

std::string wrapped(std::string_view text, size_t indent) {
  std::string out;
  while (!text.empty()) {
    size_t end = text.size();
    if (end > kWidth - indent) {
      const size_t space = text.rfind(' ', kWidth - indent);
      end = space == text.npos ? std::min(text.find(' '), text.size()) : space;
    }
    out.append(indent, ' ').append(text.substr(0, end)) += '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// CLI11 writes a value's kind and what its validators say in one: "INT:limits 1 to 1024".
std::string kind(const CLI::Option& option) {
  const std::string type = option.get_type_name(), name = type.substr(0, type.find(':'));
  return name == "INT" || name == "UINT" ? "N" : name == "FLOAT" ? "X" : name;
}

std::string names(const CLI::Option& option) {
  std::string out;
  for (const std::string& name : option.get_snames()) out += (out.empty() ? "-" : ", -") + name;
  for (const std::string& name : option.get_lnames()) out += (out.empty() ? "--" : ", --") + name;
  return out;
}

std::string flag_text(const CLI::Option& option) {
  const bool takes_value = option.get_items_expected_max() > 0;
  std::string about = option.get_description();
  const auto add = [&](const std::string& note) { about += "; " + note; };
  if (const std::string range = limits_of(option); !range.empty()) add(range);
  std::string usual = option.get_default_str();
  std::erase_if(usual, [](char c) { return c == '[' || c == ']'; });
  if (takes_value && !usual.empty()) add(usual + " if not given");
  for (const CLI::Option* other : option.get_needs()) add("with " + other->get_name() + " only");
  for (const CLI::Option* other : option.get_excludes()) add("not with " + other->get_name());
  if (option.get_required()) add("required");
  return "  " + names(option) + (takes_value ? " " + kind(option) : "") + '\n' + wrapped(about, 6);
}

std::vector<const CLI::App*> option_groups(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* part) { return part->get_name().empty(); });
}

// Of an option group, which has a help flag too.
std::vector<const CLI::Option*> own_options(const CLI::App& group) {
  return group.get_options([&](const CLI::Option* option) { return option != group.get_help_ptr(); });
}

std::string synopsis(const CLI::App& app) {
  std::string text = app.get_parent() ? "tessera " + app.get_name() : "tessera COMMAND";
  for (const CLI::Option* option : app.get_options())
    if (option->get_required()) text += " -" + option->get_snames().front() + " " + kind(*option);
  for (const CLI::App* group : option_groups(app)) {
    std::string choices;
    for (const CLI::Option* option : own_options(*group)) {
      const std::string name = option->get_snames().empty() ? "--" + option->get_lnames().front() : "-" + option->get_snames().front();
      choices += (choices.empty() ? "" : " | ") + name + " " + kind(*option);
    }
    const bool needed = group->get_require_option_min() > 0;
    text += (needed ? " (" : " [") + choices + (needed ? ")" : "]");
  }
  return text + " [FLAG...]";
}

std::string section(std::string title, const std::vector<const CLI::Option*>& options) {
  std::transform(title.begin(), title.end(), title.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  std::string text = "\n" + title + "\n";
  for (const CLI::Option* option : options) text += flag_text(*option);
  return options.empty() ? "" : text;
}

std::string flags(const CLI::App& app) {
  const auto of_group = [&](const std::string& group) {
    return section(group,
                   app.get_options([&](const CLI::Option* option) { return option->get_group() == group && option->nonpositional(); }));
  };
  constexpr std::string_view kModel = "Model", kRest = "Options";
  std::string text = of_group(std::string(kModel));
  for (const CLI::App* group : option_groups(app)) text += section(group->get_group(), own_options(*group));
  for (const std::string& group : app.get_groups())
    if (group != kModel && group != kRest) text += of_group(group);
  return text + of_group(std::string(kRest));
}

std::string commands(const CLI::App& app) {
  std::string text;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App* part) { return !part->get_name().empty(); }))
    text += "  " + command->get_name() + '\n' + wrapped(command->get_description(), 6);
  return text.empty() ? "" : "\nCOMMANDS\n" + text;
}

// More about a command, line by line.
std::string details(std::string_view footer) {
  std::string text = footer.empty() ? "" : "\nDETAILS\n";
  while (!footer.empty()) {
    const std::string_view line = footer.substr(0, footer.find('\n'));
    text += line.starts_with(' ') || line.empty() ? std::string(line) + '\n' : wrapped(line, 2);
    footer.remove_prefix(std::min(line.size() + 1, footer.size()));
  }
  return text;
}

std::string examples(const std::string& name) {
  for (const auto& [command, text] : kExamples)
    if (command == name) return std::string("\nEXAMPLES\n") + text;
  return "";
}

}  // namespace

std::string help_text(const CLI::App& app) {
  std::string text = "NAME\n" + wrapped((app.get_parent() ? "tessera " : "") + app.get_name() + ": " + app.get_description(), 2);
  text += "\nSYNOPSIS\n" + wrapped(synopsis(app), 2) + commands(app) + flags(app) + details(app.get_footer()) + examples(app.get_name());
  text.append("\nENVIRONMENT\n").append(kEnvironment).append("\nEXIT CODES\n").append(kExitCodes);
  return text + (app.get_parent() ? "" : "\ntessera COMMAND --help tells a command's flags.\n");
}

}  // namespace tessera
