// What every widget of the demo uses; it is put before each.
const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

const fill = (words, values) => words.replace(/\{(\w+)\}/g, (_, name) => values[name]);

