// What Ollama feeds a model: Modelfiles' templates, filled in by Go's own text/template as Ollama's Template.Execute
// fills in one that reads .Messages: neighbours of one role are joined, what the system says is gathered.
//
//	go run ollama.go < CASES.json
//
// CASES is a list of objects with `ollama` (a template), `ollama_messages` (the Modelfile's own, each with `role` and
// `content`) and `inputs`. Out comes one JSON object: `version`, Go's, and `texts`, a list for each case, a text for each
// input.
package main

import (
	"encoding/json"
	"log"
	"os"
	"runtime"
	"strings"
	"text/template"
)

// Message is one turn, with the names that templates know.
type Message struct {
	Role    string
	Content string
}

// Case is one Modelfile and the texts of a user.
type Case struct {
	Ollama         string    `json:"ollama"`
	OllamaMessages []Message `json:"ollama_messages"`
	Inputs         []string  `json:"inputs"`
}

// collate joins neighbours of one role, and all that the system says.
func collate(messages []Message) (string, []Message) {
	var system []string
	var joined []Message
	for _, one := range messages {
		if one.Role == "system" {
			system = append(system, one.Content)
		}
		if last := len(joined) - 1; last >= 0 && joined[last].Role == one.Role {
			joined[last].Content += "\n\n" + one.Content
		} else {
			joined = append(joined, one)
		}
	}
	return strings.Join(system, "\n\n"), joined
}

// prompt is what a model gets for a user's text.
func prompt(parsed *template.Template, before []Message, text string) (string, error) {
	system, messages := collate(append(append([]Message{}, before...), Message{"user", text}))
	var out strings.Builder
	err := parsed.Execute(&out, map[string]any{"System": system, "Messages": messages, "Response": ""})
	return out.String(), err
}

func main() {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		log.Fatal(err)
	}
	texts := make([][]string, len(cases))
	for i, one := range cases {
		parsed, err := template.New("").Option("missingkey=zero").Parse(one.Ollama)
		if err != nil {
			log.Fatalf("case %d: %v", i, err)
		}
		for _, input := range one.Inputs {
			text, err := prompt(parsed, one.OllamaMessages, input)
			if err != nil {
				log.Fatalf("case %d: %v", i, err)
			}
			texts[i] = append(texts[i], text)
		}
	}
	told := map[string]any{"version": runtime.Version(), "texts": texts}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		log.Fatal(err)
	}
}
