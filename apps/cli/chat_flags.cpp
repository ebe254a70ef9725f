#include "cli/chat_flags.h"

#include "cli/arguments.h"
#include "cli/given_text.h"
#include "core/error.h"
#include "core/json.h"
#include "text/jinja/json.h"
#include "text/jinja/lexer.h"

namespace tessera {
namespace {

// "enable_thinking=false": JSON, else text.
ChatArguments parse_arguments(const ChatFlags& flags) {
  ChatArguments arguments;
  for (const std::string& text : flags.arguments) {
    const size_t equals = text.find('=');
    check(equals != text.npos && equals > 0, "--template-arg ", text, ": must be NAME=VALUE");
    const std::string value = text.substr(equals + 1);
    check(value != "True" && value != "False", "--template-arg ", text, ": write true or false");
    jinja::Value parsed = chat_text(value, jinja::Origin::person);
    try {
      parsed = jinja::from_json(parse_json(value, "--template-arg").root(), "--template-arg");
    } catch (const FileError&) {  // no JSON: a text
    }
    arguments.emplace_back(text.substr(0, equals), std::move(parsed));
  }
  return arguments;
}

}  // namespace

void add_chat_flags(CLI::App& command, ChatFlags& flags, CLI::Option* chat) {
  const auto add = [&](CLI::Option* option, const char* type) {
    option->type_name(type);
    if (chat) option->needs(chat);
    return option;
  };
  add(command.add_option("--system,--sys", flags.system, "The system message"), "TEXT");
  add(command.add_option("--template", flags.template_file, "A file with the Jinja text to use in place of the checkpoint's chat template"),
      "FILE");
  add(add_texts(command, "--template-arg", flags.arguments,
                "A variable of the template, as in enable_thinking=false: JSON, else text; may be given several times"),
      "NAME=VALUE");
}

ConversationOptions conversation_options(const ChatFlags& flags) {
  ConversationOptions options{
      .system = flags.system, .arguments = parse_arguments(flags), .given_arguments = flags.arguments, .template_option = "--template"};
  if (flags.template_file) options.chat_template = {read_file(*flags.template_file, jinja::kMostSourceBytes), *flags.template_file};
  if (flags.system) expect_utf8(*flags.system, "--system");
  return options;
}

}  // namespace tessera
