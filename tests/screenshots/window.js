// For pictures; put behind what the tests do inside Thunderbird.

function window3() {
  return Services.wm.getMostRecentWindow("mail:3pane");
}

function pane3() {
  return window3().document.getElementById("tabmail").currentAbout3Pane;
}

/** Nothing but the inbox, its list with the column "Tags", and a message. */
async function arrange(width, height, messageHeight) {
  const tabs = window3().document.getElementById("tabmail");
  tabs.tabInfo.slice(1).forEach(tab => tabs.closeTab(tab));
  window3().resizeTo(width, height);
  const pane = pane3();
  pane.paneLayout.folderPaneVisible = false;
  pane.paneLayout.messagePaneSplitter.height = messageHeight;
  const shown = ["correspondentCol", "subjectCol", "tagsCol", "dateCol"];
  const columns = Object.fromEntries(shown.map((name, ordinal) => [name, { visible: true, ordinal }]));
  const inbox = folder("INBOX");
  inbox.msgDatabase.dBFolderInfo.setCharProperty("columnStates", JSON.stringify(columns));
  pane.displayFolder(inbox);
  await until(() => pane.gDBView?.rowCount == messages("INBOX").length, "the list");
}

/** Click a message, and wait until it is shown with its tags, and known to be read. */
async function choose(uid) {
  const pane = pane3();
  const shown = pane.messageBrowser.contentWindow;
  const header = message("INBOX", uid);
  const uri = folder("INBOX").getUriForMsg(header);
  pane.threadTree.selectedIndex = pane.gDBView.findIndexOfMsgHdr(header, true);
  await until(() => shown.gMessageURI == uri && shown.msgLoaded && header.isRead, `message ${uid}`);
  await until(() => shown.document.querySelector("#expandedtagsRow:not([hidden])"), `tags of message ${uid}`);
  pane.threadTree.scrollTo(0, 0);
  for (let frame = 0; frame < 5; frame++) {
    await new Promise(resolve => pane.requestAnimationFrame(resolve));
  }
}
