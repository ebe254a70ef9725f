#pragma once
#include <memory>
#include <optional>
#include <string>

namespace tessera {

// Reads what a person types. On a terminal with history, editing and pastes of many lines (libedit); elsewhere plain lines, which may end
// as Windows' do and begin with a byte-order mark.
class LineEditor {
 public:
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // One entry without its newline; nullopt at the end of the input. A line that ends with a backslash goes on in the next. In a paste, a
  // newline does not end the entry (it is shown as a return sign). Throws Interrupted on SIGINT and SIGTERM.
  std::optional<std::string> read(const std::string& prompt);

 private:
  struct Terminal;
  std::optional<std::string> read_line(const std::string& prompt);
  bool first_ = true;
  std::unique_ptr<Terminal> terminal_;  // null: the input is no terminal
};

}  // namespace tessera
